"""Headers of weight files: what the format allows is read, everything else is refused by name."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from pipeline.checkpoint.safetensors_file import (
    ITEM_BYTES,
    MAX_HEADER_BYTES,
    TensorInfo,
    encode_header,
    header_bytes,
    parse_header,
    read_header,
)
from pipeline.errors import VerificationError

GOOD: dict[str, Any] = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [5], "data_offsets": [24, 34]},
}
DATA_BYTES = 34


def raw(text: bytes, data_bytes: int = DATA_BYTES, length: int | None = None) -> bytes:
    """A file with this header text."""
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(data_bytes)


def made(header: Any, data_bytes: int = DATA_BYTES) -> bytes:
    """A file with this header document."""
    return raw(json.dumps(header).encode(), data_bytes)


def changed(name: str, **entry: Any) -> bytes:
    """The good file with an entry changed."""
    return made({**GOOD, name: {**GOOD[name], **entry}})


def added(name: str, data_bytes: int = DATA_BYTES) -> bytes:
    """The good file with an empty tensor of this name at its end."""
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [34, 34]}
    return made({**GOOD, name: entry}, data_bytes)


def read(data: bytes) -> dict[str, TensorInfo]:
    """Parse a whole file in memory."""
    head = data[: header_bytes(data[:8], "x.safetensors", len(data))]
    return parse_header(head, "x.safetensors", len(data))


FAULTS: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "0 bytes, too few"),
    "seven bytes": (b"\0" * 7, "too few"),
    "no header": (raw(b"", 0), "does not begin with `{`"),
    "length of the whole file": (raw(b"{}", 0, length=3), "claims 3 bytes"),
    "giant length": (raw(b"{}", 0, length=2**63), "more than"),
    "over the cap": (raw(b"{}", 0, length=MAX_HEADER_BYTES + 1), "more than"),
    "length of all ones": (b"\xff" * 8 + b"{}", "more than"),
    "not json": (raw(b"{nonsense}"), "not valid JSON"),
    "truncated json": (raw(b'{"a":'), "not valid JSON"),
    "two documents": (raw(b"{}{}", 0), "not valid JSON"),
    "array": (raw(b"[]", 0), "does not begin with `{`"),
    "leading space": (raw(b" {}", 0), "does not begin with `{`"),
    "byte order mark": (raw(b"\xef\xbb\xbf{}", 0), "does not begin with `{`"),
    "not utf-8": (raw(b'{"\xff":1}'), "not UTF-8 at byte 2"),
    "utf-16": (raw("{}".encode("utf-16-le"), 0), "not valid JSON"),
    "deep nesting": (raw(b'{"a":' + b"[" * 100_000), "too deeply"),
    "duplicate tensor": (raw(b'{"a":1,"a":2}'), "repeated key `a`"),
    "duplicate key inside": (
        raw(b'{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1),
        "repeated key `dtype`",
    ),
    "duplicate metadata": (raw(b'{"__metadata__":{},"__metadata__":{}}', 0), "repeated key"),
    "NaN": (raw(b'{"a":NaN}'), "`NaN` is not JSON"),
    "infinity": (raw(b'{"a":-Infinity}'), "`-Infinity` is not JSON"),
    "number out of range": (raw(b'{"a":1e999}'), "out of range"),
    "integer of many digits": (raw(b'{"a":' + b"9" * 10_000 + b"}"), "not valid JSON"),
    "entry is a list": (made({**GOOD, "b": []}), "`b`: its entry is not an object"),
    "entry is null": (made({**GOOD, "b": None}), "`b`: its entry"),
    "no dtype": (made({"a": {"shape": [0], "data_offsets": [0, 0]}}, 0), "its entry"),
    "unknown key": (changed("b", stride=[1]), "its entry is not an object of"),
    "unknown dtype": (changed("b", dtype="F128"), "unknown dtype `F128`"),
    "small dtype": (changed("b", dtype="F4"), "unknown dtype `F4`"),
    "dtype of lower case": (changed("b", dtype="bf16"), "unknown dtype"),
    "dtype is a number": (changed("b", dtype=16), "unknown dtype `16`"),
    "shape is text": (changed("b", shape="5"), "shape is not a list"),
    "negative size": (changed("b", shape=[-5]), "shape is not a list"),
    "size is a float": (changed("b", shape=[5.0]), "shape is not a list"),
    "size is true": (changed("b", shape=[True, 5]), "shape is not a list"),
    "size of 64 bits": (changed("b", shape=[2**63]), "shape is not a list"),
    "overflowing sizes": (changed("b", shape=[2**62, 2**62]), "takes"),
    "too many dims": (changed("b", shape=[1] * 65), "at most 64"),
    "offsets of one": (changed("b", data_offsets=[24]), "not two byte positions"),
    "offsets of three": (changed("b", data_offsets=[24, 34, 34]), "not two byte positions"),
    "negative offset": (changed("a", data_offsets=[-24, 0]), "not two byte positions"),
    "offset is a float": (changed("a", data_offsets=[0.0, 24.0]), "not two byte positions"),
    "offset is true": (changed("a", data_offsets=[False, 24]), "not two byte positions"),
    "range of reverse order": (changed("a", data_offsets=[24, 0]), "ends at 0, before its begin"),
    "range too short": (changed("a", data_offsets=[0, 23]), "takes 24 bytes, but its range has 23"),
    "range of half values": (changed("b", data_offsets=[24, 33]), "takes 10 bytes"),
    "overlap": (changed("b", data_offsets=[20, 30]), "`b`: its range overlaps"),
    "same range twice": (changed("b", shape=[12], data_offsets=[0, 24]), "overlaps"),
    "gap at the start": (
        made({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [4, 28]}}, 28),
        "`a`: its range leaves a gap",
    ),
    "gap in between": (changed("b", shape=[4], data_offsets=[26, 34]), "leaves a gap"),
    "data too short": (made(GOOD, 33), "end at byte"),
    "data too long": (made(GOOD, 35), "end at byte"),
    "no tensors but data": (made({}, 1), "end at byte"),
    "range past the end": (changed("b", shape=[50], data_offsets=[24, 124]), "end at byte"),
    "metadata is a list": (made({**GOOD, "__metadata__": []}), "`__metadata__` is not"),
    "metadata of numbers": (made({**GOOD, "__metadata__": {"n": 1}}), "`__metadata__` is not"),
    "empty name": (added(""), "its name is empty"),
    "name of control characters": (added("a\x1b[2J"), "control or invisible"),
    "name with NUL": (added("a\0b"), "control or invisible"),
    "name with a line break": (added("a\nb"), "control or invisible"),
    "name that turns direction": (added("a\u202eb"), "control or invisible"),
    "name with a lone surrogate": (added("a\ud800"), "lone surrogate"),
    "name that leaves the folder": (added("../../a"), "path out of the folder"),
    "absolute name": (added("/etc/passwd"), "path out of the folder"),
    "endless name": (added("n" * 1025), "1025 characters"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_header_is_refused_with_file_and_reason(fault: str, tmp_path: Path) -> None:
    data, reason = FAULTS[fault]
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(VerificationError) as caught:
        read_header(path)
    told = "\n".join([caught.value.message, *caught.value.facts])
    assert "`x.safetensors" in caught.value.message
    assert reason in told
    assert told.isprintable() or "\n" in told
    assert "\x1b" not in told


def test_all_faulty_tensors_of_a_file_are_told_together() -> None:
    header = {**GOOD, "a": {**GOOD["a"], "dtype": "?"}, "b": {**GOOD["b"], "shape": [6]}}
    with pytest.raises(VerificationError) as caught:
        read(made(header))
    assert [fact.split(":")[0] for fact in caught.value.facts] == ["tensor `a`", "tensor `b`"]


def test_a_hostile_file_makes_a_short_message() -> None:
    header = {f"t{n}": {"dtype": "?", "shape": [], "data_offsets": [0, 0]} for n in range(5000)}
    with pytest.raises(VerificationError) as caught:
        read(made(header))
    assert len(caught.value.facts) == 51
    assert caught.value.facts[-1] == "and 4950 more"


def test_offsets_count_from_the_start_of_the_file() -> None:
    data = made(GOOD)
    start = len(data) - DATA_BYTES
    assert read(data) == {
        "a": TensorInfo("a", "float32", (2, 3), "x.safetensors", start, 24),
        "b": TensorInfo("b", "bfloat16", (5,), "x.safetensors", start + 24, 10),
    }


def test_tensors_come_in_the_order_of_their_bytes_whatever_the_headers_order() -> None:
    assert list(read(made(dict(reversed(GOOD.items()))))) == ["a", "b"]


def test_empty_tensors_and_scalars_and_no_tensors_are_allowed() -> None:
    header = {
        "scalar": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
        "empty": {"dtype": "F32", "shape": [0, 7], "data_offsets": [4, 4]},
    }
    assert {name: info.num_bytes for name, info in read(made(header, 4)).items()} == {
        "scalar": 4,
        "empty": 0,
    }
    assert read(made({}, 0)) == {}


def test_a_range_need_not_be_aligned_as_in_the_library(tmp_path: Path) -> None:
    header = {
        "odd": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "wide": {"dtype": "F32", "shape": [2], "data_offsets": [3, 11]},
    }
    (tmp_path / "x.safetensors").write_bytes(made(header, 11))
    assert load_file(tmp_path / "x.safetensors").keys() == read(made(header, 11)).keys()


def test_a_header_of_the_library_is_read(tmp_path: Path) -> None:
    arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.ones(5, np.float16)}
    save_file(arrays, tmp_path / "x.safetensors", metadata={"format": "np"})
    data = (tmp_path / "x.safetensors").read_bytes()
    for name, info in read_header(tmp_path / "x.safetensors").items():
        found = data[info.offset : info.offset + info.num_bytes]
        assert (found, info.shape) == (arrays[name].tobytes(), arrays[name].shape)


def test_a_missing_file_and_an_unreadable_one(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"`x\.safetensors` is missing"):
        read_header(tmp_path / "x.safetensors")
    (tmp_path / "d.safetensors").mkdir()
    with pytest.raises(VerificationError, match=r"`d\.safetensors` is not a regular file"):
        read_header(tmp_path / "d.safetensors")


def test_a_header_that_was_cut_off_while_fetching() -> None:
    data = made(GOOD)
    with pytest.raises(VerificationError, match="of its"):
        parse_header(data[:40], "x.safetensors", len(data))


names = st.text(
    st.characters(categories=("L", "N")) | st.sampled_from("._-"), min_size=1, max_size=20
).filter(lambda name: ".." not in name)
entries = st.lists(
    st.tuples(
        names,
        st.sampled_from(sorted(ITEM_BYTES)),
        st.lists(st.integers(0, 5), max_size=3).map(tuple),
    ),
    unique_by=lambda entry: entry[0],
    max_size=6,
)


@given(entries, st.dictionaries(names, st.text(max_size=9), max_size=2))
def test_what_is_written_is_read_again(
    tensors: list[tuple[str, str, tuple[int, ...]]], metadata: dict[str, str]
) -> None:
    head = encode_header(tensors, metadata)
    sizes = [ITEM_BYTES[dtype] * int(np.prod(shape)) for _, dtype, shape in tensors]
    found = parse_header(head, "x", len(head) + sum(sizes))
    assert len(head) % 8 == 0
    assert {(t.name, t.dtype, t.shape) for t in found.values()} == set(tensors)
    assert encode_header(tensors, metadata) == head


def test_what_is_written_is_read_by_the_library(tmp_path: Path) -> None:
    tensors = [("w", "bfloat16", (3, 2)), ("v", "float16", (1,)), ("i", "int8", (3,))]
    path = tmp_path / "x.safetensors"
    path.write_bytes(encode_header(tensors, {"format": "pt"}) + bytes(12 + 2 + 3))
    with safe_open(path, "numpy") as file:
        assert {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()} == {  # noqa: SIM118
            "w": (3, 2),
            "v": (1,),
            "i": (3,),
        }
        assert file.metadata() == {"format": "pt"}


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Up to three random edits, mostly of the header."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 3])):
        place = rng.randrange(len(changed) - DATA_BYTES if rng.random() < 0.9 else len(changed))
        match rng.randrange(6):
            case 0:
                changed[place] = rng.randrange(256)
            case 1:
                changed[place] ^= 1 << rng.randrange(8)
            case 2:
                del changed[place : place + rng.randint(1, 8)]
            case 3:
                changed[place:place] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 4)))
            case 4:
                changed[place:place] = changed[place : place + rng.randint(1, 20)]
            case 5:
                changed[place : place + 1] = rng.choice(b'0123456789-+.eE"{}[],:').to_bytes()
        if len(changed) <= DATA_BYTES:
            break
    return bytes(changed)


def test_mutants_are_read_as_the_library_reads_them_or_refused(tmp_path: Path) -> None:
    """A mutant that we read, the library reads with the same tensors. We may refuse more."""
    rng = random.Random(20261122)
    path = tmp_path / "x.safetensors"
    outcomes = {"read": 0, "refused": 0}
    for _ in range(500):
        data = mutate(made(GOOD), rng)
        try:
            found = read(data)
        except VerificationError:
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        path.write_bytes(data)
        try:
            with safe_open(path, "numpy") as file:
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:  # pragma: no cover - a mutant that we should have refused
            pytest.fail(f"the library refuses {data!r}: {error}")
        assert {name: info.shape for name, info in found.items()} == shapes
    assert outcomes["read"] > 5
    assert outcomes["refused"] > 200
