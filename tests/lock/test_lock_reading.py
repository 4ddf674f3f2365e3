"""Locks that were edited by hand, damaged, merged or made to harm: one clear error each."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.checkpoint.strict_json import MAX_FACTS
from pipeline.errors import MachineError, RecipeError, VerificationError
from pipeline.lock.document import Lock, encode, lock_path
from pipeline.lock.reading import MAX_BYTES, decode, find_lock

SHA256 = "0123456789abcdef" * 4
BLOB = "0123456789" * 4


def document() -> dict[str, Any]:
    """A lock with everything that one can have."""
    return {
        "format": 1,
        "sources": [
            {
                "asked": {"path": "checkpoint"},
                "kind": "local",
                "commit": None,
                "files": [{"path": "config.json", "size_bytes": 1, "sha256": SHA256}],
            },
            {
                "asked": {"repo": "acme/tiny", "revision": "main"},
                "kind": "hub",
                "commit": BLOB,
                "files": [
                    {"path": "LICENSE", "size_bytes": 0, "sha256": SHA256, "git_blob": BLOB},
                    {"path": "a/b.safetensors", "size_bytes": 5 << 30, "sha256": SHA256},
                ],
            },
        ],
        "tools": {"numpy": "2.4.6", "torch": "2.9.1+cpu"},
        "build_tools": {"tensorrt": {"onnx": "1.23.2"}, "trtllm": {"tensorrt_llm": "1.2.1"}},
    }


def read(changed: Any) -> Lock:
    return decode(json.dumps(changed).encode(), "tiny.lock.json")


def test_what_is_written_is_what_is_read() -> None:
    lock = read(document())
    assert decode(encode(lock), "tiny.lock.json") == lock
    assert json.loads(encode(lock)) == document()
    assert encode(decode(encode(lock), "x")) == encode(lock)


def test_a_line_for_each_file_and_tool() -> None:
    lines = encode(read(document())).decode().splitlines()
    assert sum('"path": "' in line and "sha256" in line for line in lines) == 3
    assert '        {"path": "LICENSE", "size_bytes": 0, "sha256": "' in "\n".join(lines)
    assert '      "onnx": "1.23.2"' in lines


DELETE = object()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("extra",), 1),
        (("format",), True),
        (("format",), 1.0),
        (("format",), "1"),
        (("format",), 0),
        (("format",), DELETE),
        (("sources",), []),
        (("sources",), {}),
        (("sources",), DELETE),
        (("tools",), DELETE),
        (("tools", "numpy"), 2),
        (("tools", "numpy"), ""),
        (("tools", "numpy"), "1\n2"),
        (("tools", "num py"), "1"),
        (("tools", "x" * 101), "1"),
        (("build_tools",), DELETE),
        (("build_tools", "trtllm"), "1.2.1"),
        (("build_tools", "TRT LLM"), {}),
        (("sources", 0, "asked"), {}),
        (("sources", 0, "asked"), "checkpoint"),
        (("sources", 0, "asked", "path"), DELETE),
        (("sources", 0, "commit"), BLOB),
        (("sources", 0, "kind"), "hub"),
        (("sources", 0, "host"), "mine"),
        (("sources", 1, "commit"), None),
        (("sources", 1, "commit"), "main"),
        (("sources", 1, "commit"), BLOB + "\n"),
        (("sources", 1, "commit"), BLOB[:39]),
        (("sources", 1, "commit"), BLOB.replace("1", "A")),
        (("sources", 1, "commit"), DELETE),
        (("sources", 1, "kind"), "Hub!"),
        (("sources", 1, "files"), []),
        (("sources", 1, "files", 0), "LICENSE"),
        (("sources", 1, "files", 0, "path"), "z"),
        (("sources", 1, "files", 0, "path"), "a/b.safetensors"),
        (("sources", 1, "files", 0, "path"), "../LICENSE"),
        (("sources", 1, "files", 0, "path"), "/LICENSE"),
        (("sources", 1, "files", 0, "path"), "-x"),
        (("sources", 1, "files", 0, "path"), "LIC\x1b[2JENSE"),
        (("sources", 1, "files", 0, "path"), "A/B.safetensors"),
        (("sources", 1, "files", 0, "path"), 7),
        (("sources", 1, "files", 0, "size_bytes"), -1),
        (("sources", 1, "files", 0, "size_bytes"), 1 << 63),
        (("sources", 1, "files", 0, "size_bytes"), 10**39),
        (("sources", 1, "files", 0, "size_bytes"), 1.0),
        (("sources", 1, "files", 0, "size_bytes"), "1"),
        (("sources", 1, "files", 0, "size_bytes"), True),
        (("sources", 1, "files", 0, "size_bytes"), DELETE),
        (("sources", 1, "files", 0, "sha256"), SHA256[:63]),
        (("sources", 1, "files", 0, "sha256"), SHA256.upper()),
        (("sources", 1, "files", 0, "sha256"), BLOB),
        (("sources", 1, "files", 0, "sha256"), None),
        (("sources", 1, "files", 0, "sha256"), DELETE),
        (("sources", 1, "files", 0, "git_blob"), SHA256),
        (("sources", 1, "files", 0, "git_blob"), 1),
        (("sources", 1, "files", 0, "mode"), "0644"),
    ],
    ids=lambda value: "deleted" if value is DELETE else repr(value)[:60],
)
def test_a_wrong_value_is_refused(place: tuple[Any, ...], value: Any) -> None:
    changed = document()
    inside = changed
    for step in place[:-1]:
        inside = inside[step]
    if value is DELETE:
        del inside[place[-1]]
    else:
        inside[place[-1]] = value
    with pytest.raises(VerificationError) as caught:
        read(changed)
    assert caught.value.exit_code == 6
    assert "tiny.lock.json" in caught.value.message
    assert "\x1b" not in "".join([caught.value.message, *caught.value.facts])


def test_order_and_repetition_are_refused() -> None:
    for change in (
        lambda sources: sources.reverse(),
        lambda sources: sources.append(sources[1]),
        lambda sources: sources[1]["files"].reverse(),
        lambda sources: sources[1]["files"].append(sources[1]["files"][1]),
    ):
        changed = document()
        change(changed["sources"])
        with pytest.raises(VerificationError, match="not a valid lock"):
            read(changed)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe{",
        b"{" * 100_000,
        b'{"format": 1, "format": 1}',
        b'{"format": 1, "sources": NaN}',
        b'{"format": ' + b"9" * 5000 + b"}",
        b'{"format": 1, "tools": {"a": "\\ud800"}}',
        b'{"format": 1, "sources": [' + b"{}," * 100_000 + b"{}]}",
        b'{"format": 1, "sources": [{"files": [' + b"{}," * 15_000 + b"{}]}]}",
    ],
    ids=lambda data: repr(data)[:40],
)
def test_damaged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(VerificationError) as caught:
        decode(data, "tiny.lock.json")
    assert "tiny.lock.json" in caught.value.message
    assert len(caught.value.facts) <= MAX_FACTS + 1
    assert caught.value.hint is not None


def test_a_newer_format_says_so() -> None:
    with pytest.raises(VerificationError, match="has format 2; this version") as caught:
        read({**document(), "format": 2, "unheard": "of"})
    assert "newer trtllm-pack" in str(caught.value.hint)


def test_a_merge_that_is_not_settled_is_the_users() -> None:
    text = encode(read(document())).replace(b'  "tools"', b'<<<<<<< HEAD\n  "tools"')
    with pytest.raises(RecipeError, match="conflict marks") as caught:
        decode(text, "tiny.lock.json")
    assert caught.value.exit_code == 3


def test_only_a_regular_file_of_a_fair_size_is_read(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    assert find_lock(recipe) is None
    path = lock_path(recipe)
    assert path.name == "tiny.lock.json"
    os.mkfifo(path)
    with pytest.raises(VerificationError, match="not a regular file"):
        find_lock(recipe)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(VerificationError, match="not a regular file"):
        find_lock(recipe)
    path.unlink()
    path.mkdir()
    with pytest.raises((VerificationError, MachineError)):
        find_lock(recipe)
    path.rmdir()
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(VerificationError, match="more than"):
        find_lock(recipe)
    path.write_bytes(encode(read(document())))
    found = find_lock(recipe)
    assert found is not None
    assert found.lock == read(document())


WHOLE = encode(read(document()))


@given(at=st.integers(0, len(WHOLE) - 1), byte=st.integers(0, 255), cut=st.booleans())
@example(at=0, byte=0, cut=True)
def test_random_damage_is_refused_or_reads_as_a_lock(at: int, byte: int, cut: bool) -> None:
    data = WHOLE[:at] if cut else WHOLE[:at] + bytes([byte]) + WHOLE[at + 1 :]
    try:
        lock = decode(data, "tiny.lock.json")
    except (RecipeError, VerificationError):
        return
    assert decode(encode(lock), "tiny.lock.json") == lock
