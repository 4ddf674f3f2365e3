"""Fenced blocks of a Markdown text are read as a script, with the lines that they have there."""

from __future__ import annotations

import pytest

from pipeline.errors import UsageError
from pipeline.migration.markdown import without_markdown
from pipeline.migration.migrate import migrate

README = """\
# It isn't hard

1. Convert:

   ```bash
   python convert_checkpoint.py --model_dir a/b --output_dir c
   ```
```console
$ trtllm-build --checkpoint_dir c --max_batch_size 4
root@host:/work# echo done
```
~~~python
print("trtllm-build isn't run")
~~~
```
That's what it prints
```
"""


def test_blocks_keep_the_numbers_of_their_lines() -> None:
    lines = without_markdown(README).splitlines()
    assert len(lines) == len(README.splitlines())
    shown = {number: line.strip() for number, line in enumerate(lines, 1) if line}
    assert shown == {
        6: "python convert_checkpoint.py --model_dir a/b --output_dir c",
        9: "$ trtllm-build --checkpoint_dir c --max_batch_size 4",
        10: "root@host:/work# echo done",
    }


def test_a_readme_is_migrated() -> None:
    migration = migrate(README)
    assert migration.is_whole
    assert "max_batch_size: 4" in migration.recipe
    assert {answer.line for answer in migration.answers[0][1]} == {6, 9}


@pytest.mark.parametrize("text", ["a `b`\n", "#!/bin/sh\ncat <<E\n```\nx\n```\nE\n", "", "a\n"])
def test_what_is_no_markdown_stays(text: str) -> None:
    assert without_markdown(text) == text


def test_a_block_that_is_never_closed_ends_with_the_text() -> None:
    assert without_markdown("x\n```sh\na\nb") == "\n\na\nb\n"


def test_a_fence_within_a_longer_one_does_not_close_it() -> None:
    assert without_markdown("````\na\n~~~\n````\nb\n") == "\na\n~~~\n\n\n"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Run `trtllm-build --checkpoint_dir c` now\n", "backquotes"),
        ("trtllm-build --checkpoint_dir c\n```sh\nls\n```\n", "fenced"),
        ("# trtllm-build --checkpoint_dir c\n", "comments"),
        ("ls\n", "give lines"),
    ],
)
def test_where_nothing_is_found_the_hint_says_why(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        migrate(text)
    assert hint in str(caught.value.hint)
