"""Reading shell scripts: what published scripts use, and anything else without a crash."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.migration.migrate import Migration, migrate
from pipeline.migration.shell_script import Command, read_script


def _words(script: str, **variables: str) -> list[list[str]]:
    """The commands of a script, as lists of words."""
    return [[word.text for word in each.words] for each in read_script(script, variables)]


def _only(script: str) -> Command:
    (command,) = read_script(script)
    return command


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("a --b 1 \\\n  --c 2", ["a", "--b", "1", "--c", "2"]),
        ("a --b 1 \\\r\n  --c 2\r\n", ["a", "--b", "1", "--c", "2"]),
        ('a \'b  c\' "d \\"e\\" f" g\\ h # i', ["a", "b  c", 'd "e" f', "g h"]),
        ("a b#c '#d'", ["a", "b#c", "#d"]),
        ("X=1 Y=2 a $HOME_NOT b", ["a", "$HOME_NOT", "b"]),
        ("M=a/b; c $M \"${M}\" '$M' $M-x", ["c", "a/b", "a/b", "$M", "a/b-x"]),
        ("export M=a/b\nc ${M}", ["c", "a/b"]),
        ("F='--x 1  --y'; a $F \"$F\"", ["a", "--x", "1", "--y", "--x 1  --y"]),
        ("F=(--x 1 --y 'z w'); F+=(--v); a ${F[@]}", ["a", "--x", "1", "--y", "z", "w", "--v"]),
        ('F=(--y "z w"); a "${F[@]}"', ["a", "--y", "z w"]),
        ("a ${N:-8} ${M:-\"x y\"} ${K-'3'}", ["a", "8", "x", "y", "'3'"]),
        (": ${N:=8}; a $N", None),
        ("A=2; B=3; a $((A * B + 1)) $(($A-$B)) $((8/3))", ["a", "7", "-1", "2"]),
        ("a > log 2>&1", ["a"]),
        ("a 2> err >> out < in", ["a"]),
        ("a &> log &", ["a"]),
        ("$ a b", ["a", "b"]),
        ("if true; then a b; fi", None),
        ("for N in 4; do a $N; done", ["a", "4"]),
        ("A=1\nA+=2\na $A", ["a", "12"]),
        ('a "b\\\nc"', ["a", "bc"]),
    ],
)
def test_words(script: str, words: list[str] | None) -> None:
    found = [each for each in _words(script) if each[0] not in (":", "true")]
    assert found == [words] if words is not None else found[-1][0] == "a"


@pytest.mark.parametrize(
    ("script", "unknown"),
    [
        ("a $1", ("$1",)),
        ("a ${X}", ("${X}",)),
        ("a x$(date)y", ("$(date)",)),
        ("a `date`", ("`date`",)),
        ("a $((N + 1))", ("$((N + 1))",)),
        ("a $((1/0))", ("$((1/0))",)),
        ("a ${X%/}", ("${X%/}",)),
        ("for N in 1 $X; do a $N; done", ("$N",)),
        ("for N in *.txt; do a $N; done", ()),
        ("a <path of it>", ("<path of it>",)),
        ("if b; then X=1; else X=2; fi\na $X", ("$X",)),
        ("X=1; read X; a $X", ("$X",)),
        ("X=$Y; a $X", ("$Y",)),
    ],
)
def test_what_a_script_does_not_say_is_unknown(script: str, unknown: tuple[str, ...]) -> None:
    command = [each for each in read_script(script) if each.words[0].text == "a"][-1]
    assert command.words[1].unknown == unknown


def test_given_variables_are_taken_and_defaults_give_way() -> None:
    assert _words("a $X ${Y:-1}", X="x", Y="y") == [["a", "x", "y"]]


def test_folders_are_followed() -> None:
    script = "cd /a\n(cd b && c)\npushd d; c; popd; c; cd ..; c; cd -; c; cd $X; c; cd e; c"
    found = [each.folder.text for each in read_script(script)]
    assert found == ["/a/b", "/a/d", "/a", "/", "/a", "$X", "$X/e"]


def test_scripts_in_scripts_have_their_own_folder() -> None:
    commands = read_script('M=m\ndocker run x bash -c "cd /z && a $M \\\n b"\nc')
    assert [(each.folder.text, each.line) for each in commands] == [("/z", 2), (".", 4)]
    assert [word.text for word in commands[0].words] == ["a", "m", "b"]


def test_lines_are_those_of_the_file() -> None:
    script = "\n# one\na \\\n  b\ncat <<EOF\nx 'y\nEOF\nc\n"
    assert [(each.words[0].text, each.line) for each in read_script(script)] == [
        ("a", 3),
        ("cat", 5),
        ("c", 8),
    ]


def test_functions_and_cases_are_walked_through() -> None:
    script = 'f() {\n  a "$1"\n}\ncase $X in\n  --m) shift;;\n  *) exit 1;;\nesac\nf 2\n'
    assert ["a", "$1"] in _words(script)
    assert not any(words[0].startswith("--") for words in _words(script))


def test_a_comment_ends_a_continued_command() -> None:
    found = _words("a --b 1 \\\n  # --c 2 \\\n  --d 3")
    assert found == [["a", "--b", "1"], ["--d", "3"]]


def test_flags_that_are_lost_by_a_comment_are_said() -> None:
    lost = "trtllm-build --max_batch_size 1 \\\n  # x\n  --max_beam_width 3\n"
    shown = [each.shown for each in migrate(lost).open_answers]
    assert "--max_beam_width" in shown


@pytest.mark.parametrize(
    "script",
    ["a 'b", 'a "b', "a `b", "a $(b", "a ${b", "A=(b", "a\nb '\nc", "${A:-" * 50 + "}" * 50],
)
def test_what_is_never_closed_is_an_error_with_its_line(script: str) -> None:
    with pytest.raises(UsageError, match=r"line [12] of the script"):
        read_script(script)


def test_variables_that_double_each_other_are_refused() -> None:
    script = "A=aaaaaaaaaaaaaaaa\n" + "A=$A$A\n" * 40 + "b $A"
    with pytest.raises(UsageError, match="longer than"):
        read_script(script)


def test_very_many_commands_are_refused() -> None:
    with pytest.raises(UsageError, match="more than 2000 commands"):
        read_script("a\n" * 3000)


TEXTS = st.text(alphabet="ab=-$(){}[]'\"`\\#;&|<>!*?@:% \n\t1", max_size=120)
WORDS = """trtllm-build python3 convert_checkpoint.py build.py --checkpoint_dir --model_dir a/b
--max_batch_size 8 $X ${X:-1} ' " \\ ; ( ) <<E E X=( --gemm_plugin auto bash -c --max_seq_len= $((
)) ` --use_weight_only -1 --dtype # cd --output_dir ckpt disable && --max_input_len 9 { }
--max_output_len --tp_size --kv_cache_type --world_size"""
PIECES = st.lists(st.sampled_from([*WORDS.split(), "\n", "\\\n"]), max_size=25)


def _migrated(text: str) -> Migration | None:
    """The migration of a text, or None where it is refused with a message."""
    try:
        return migrate(text)
    except UsageError:
        return None


@examples(max_examples=200)
@given(TEXTS | PIECES.map(" ".join))
def test_any_text_is_migrated_or_refused(text: str) -> None:
    migration = _migrated(text)
    if migration is not None:
        assert migration.recipe.startswith("# yaml-language-server")
        assert migration.is_whole == (not migration.refusals and not migration.open_answers)


@examples(max_examples=200)
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_value_of_a_flag_is_migrated_or_refused(name: str, value: str) -> None:
    texts = [f"--{name}", value, "--model_dir", value, "--output_dir", name]
    migration = _migrated(f"python3 convert_checkpoint.py {shlex.join(texts)}")
    if migration is not None:
        assert all(char.isprintable() or char == "\n" for char in migration.recipe)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("for N in 1 2\ndo\n  a $N\ndone\nb", [["a", "1"], ["a", "2"], ["b"]]),
        ('L=(x y)\nfor N in "${L[@]}"; do a $N; done', [["a", "x"], ["a", "y"]]),
        (
            "for N in 1 2; do for M in 3 4; do a $N$M; done; done",
            [["a", "13"], ["a", "14"], ["a", "23"], ["a", "24"]],
        ),
        ("for N in 1 2; do while b; do a $N; done; done", [["b"], ["a", "1"], ["b"], ["a", "2"]]),
        ("for N in 1 2; do if b; then a; fi; done; c", [["b"], ["a"], ["b"], ["a"], ["c"]]),
        ("for N in 1 2; do X=$N; done; a $X", [["a", "2"]]),
        ("user@host:~/x$ a 1", [["a", "1"]]),
        ("[root@host x]# a 1", [["a", "1"]]),
        ("RUN a 1 && b", [["a", "1"], ["b"]]),
        ("ENV X=1\nARG Y=2\nRUN a $X $Y", [["a", "1", "2"]]),
        ("a --b 1 \\  \n  --c 2 \\ # d\n  --e 3", [["a", "--b", "1", "--c", "2", "--e", "3"]]),
        ("a ..\\..\\b C:\\c", [["a", "../../b", "C:/c"]]),
        ("a <b >c d", [["a", "d"]]),
        ("a < b > c", [["a"]]),
    ],
)
def test_what_scripts_and_texts_copy_is_read(script: str, words: list[list[str]]) -> None:
    assert _words(script) == words


def test_a_folder_of_a_dockerfile_is_where_its_commands_start() -> None:
    (command,) = read_script("WORKDIR /w\nRUN a x")
    assert command.path(command.words[1]).text == "/w/x"


def test_a_given_variable_stands_for_what_the_script_takes_from_outside() -> None:
    assert _words("X=$1\na $X", X="given") == [["a", "given"]]
    assert _words("X=known\na $X", X="given") == [["a", "known"]]


def test_loops_in_loops_are_not_followed_without_end() -> None:
    opened = "for N in 1 2 3 4 5 6 7 8 9; do " * 12
    with pytest.raises(UsageError, match="more than 2000"):
        read_script(opened + "X=1; " + "done; " * 12)


def test_a_loop_that_is_never_closed_has_no_turns() -> None:
    assert _words("for N in 1 2; do a $N") == [["a", "$N"]]
