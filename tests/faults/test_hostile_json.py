"""Bombs in JSON: configs, indexes, tokenizer configs, headers. Each is refused before it costs."""

from __future__ import annotations

import json
import multiprocessing
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoint.huggingface import MAX_INDEX_FILES, parse_index
from pipeline.checkpoint.safetensors_file import MAX_HEADER_BYTES, MAX_TENSORS, read_header
from pipeline.checkpoint.strict_json import CONFIG_LIMITS, INDEX_LIMITS, parse_object
from pipeline.errors import VerificationError

ITEMS = CONFIG_LIMITS.items
WIDE = "\U0001f600"

BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "too many bytes": (lambda: b'{"a":"' + b"x" * (16 << 20) + b'"}', "more than 16777216"),
    "open lists": (lambda: b'{"a":' + b"[" * 15_000_000, "items, more than"),
    "open objects": (lambda: b'{"a":' * 3_000_000, "items, more than"),
    "lists without end": (lambda: b'{"a":' + b"[" * (ITEMS - 1), "nested too deeply"),
    "65 levels": (lambda: b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "in more than 64 levels"),
    "empty objects": (lambda: b'{"a":[' + b"{}," * ITEMS + b"1]}", "items, more than"),
    "numbers": (lambda: b'{"a":[' + b"1," * ITEMS + b"1]}", "items, more than"),
    "escapes": (lambda: b'{"a":"' + b"\\n" * (ITEMS + 1) + b'"}', "escapes, more than"),
    "million digits": (lambda: b'{"a":' + b"9" * 10**6 + b"}", "a number of 1000000 digits"),
    "negative digits": (lambda: b'{"a":-' + b"9" * 50 + b"}", "a number of 51 digits"),
    "fraction": (lambda: b'{"a":0.' + b"1" * 10**6 + b"}", "a number of 1000002 characters"),
    "exponent": (lambda: b'{"a":1e' + b"1" * 10**6 + b"}", "a number of 1000002 characters"),
    "out of range": (lambda: b'{"a":1e309}', "out of range"),
    "minus zero": (lambda: b'{"a":-0}', "a number `-0`"),
    "byte order mark": (lambda: b'\xef\xbb\xbf{"a":1}', "not valid JSON"),
    "NUL": (lambda: b'{"a":"\0"}', "not valid JSON"),
    "NUL outside": (lambda: b'{"a":1\0}', "not valid JSON"),
    "UTF-16": (lambda: '{"a":1}'.encode("utf-16"), "not UTF-8"),
    "half a character": (lambda: b'{"a":["\\uD83D"]}', "lone surrogate"),
    "half a key": (lambda: b'{"\\udfff":1}', "lone surrogate"),
    "halves in disorder": (lambda: b'{"a":"\\ude00\\ud83d"}', "lone surrogate"),
    "repeated in depth": (lambda: b'{"a":[{"b":1,"b":1}]}', "repeated key `b`"),
    "repeated by escape": (lambda: b'{"a":1,"\\u0061":1}', "repeated key `a`"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused(bomb: str) -> None:
    made, reason = BOMBS[bomb]
    with pytest.raises(VerificationError, match=reason) as caught:
        parse_object(made(), "config.json")
    assert "`config.json`" in caught.value.message
    assert len(caught.value.message) < 300
    assert caught.value.message.isprintable()


GOOD: dict[str, bytes] = {
    "64 levels": b'{"a":' + b"[" * 63 + b"]" * 63 + b"}",
    "brackets in texts": json.dumps({"a": "[" * 1000, "b": '\\"[[{' * 100, "[": "]"}).encode(),
    "length of a tokenizer": b'{"model_max_length":1000000000000000019884624838656}',
    "whole characters": b'{"a":"\\ud83d\\ude00","b":"\\\\ud83d"}',
    "a float of zero": b'{"a":-0.0}',
    "many small texts": json.dumps({"a": ["x"] * 100_000}).encode(),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_real_files_have_is_read(name: str) -> None:
    assert parse_object(GOOD[name], "config.json") == json.loads(GOOD[name])


def _index(pairs: dict[str, Any]) -> bytes:
    return json.dumps({"weight_map": pairs}).encode()


def test_an_index_of_more_tensors_than_any_model() -> None:
    names = {f"t{number}": "m.safetensors" for number in range(INDEX_LIMITS.items + 1)}
    with pytest.raises(VerificationError, match="items, more than"):
        parse_index(_index(names))


def test_an_index_of_more_files_than_any_model() -> None:
    names = {f"t{number}": f"m{number}.safetensors" for number in range(MAX_INDEX_FILES + 1)}
    with pytest.raises(VerificationError, match=f"{MAX_INDEX_FILES + 1} weight files"):
        parse_index(_index(names))


@pytest.mark.parametrize(
    "file",
    [
        *("../m.safetensors", "/m.safetensors", "a/m.safetensors", "a\\m.safetensors"),
        *("m\0.safetensors", "m\n.safetensors", ".safetensors", ".journal.safetensors"),
        *("artifact.json", "manifest.json", "m.bin", "m.safetensors ", "m.safetensors\u200b"),
        *("m\u043edel.safetensors", "\uff4d.safetensors", "", "m" * 2000 + ".safetensors"),
        *(None, 1, True, [], {}, ["m.safetensors"]),
    ],
)
def test_an_index_with_bad_file_names(file: Any) -> None:
    with pytest.raises(VerificationError, match=r"bad names") as caught:
        parse_index(_index({"good": "good.safetensors", "t": file}))
    assert all(fact.isprintable() and len(fact) < 500 for fact in caught.value.facts)


def test_a_million_bad_names_are_one_short_error() -> None:
    names = {f"../{number}": "m.safetensors" for number in range(100_000)}
    with pytest.raises(VerificationError) as caught:
        parse_index(_index(names))
    assert len(caught.value.facts) == 51
    assert caught.value.facts[-1] == "and 99950 more"


def _entry(number: int) -> bytes:
    begin, end = 4 * number, 4 * number + 4
    return b'"t%d":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}' % (number, begin, end)


ROOM = MAX_HEADER_BYTES - 100

HEADERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "as many tensors as fit": (
        lambda: b"{" + b",".join(map(_entry, range(1_400_000))) + b"}",
        "items, more than",
    ),
    "more tensors than allowed": (
        lambda: b"{" + b",".join(map(_entry, range(MAX_TENSORS + 1))) + b"}",
        f"{MAX_TENSORS + 1} tensors, more than {MAX_TENSORS}",
    ),
    "empty entries": (
        lambda: b"{" + b",".join(b'"%d":{}' % number for number in range(1_500_000)) + b"}",
        "tensors, more than",
    ),
    "open lists": (lambda: b'{"a":' + b"[" * ROOM, "items, more than"),
    "closed lists": (lambda: b'{"a":' + b"[" * 10**6 + b"]" * 10**6 + b"}", "nested too deeply"),
    "one wide text": (
        lambda: b'{"__metadata__":{"a":"' + WIDE.encode() + b"x" * ROOM + b'"}}',
        "not plain ASCII",
    ),
    "one wide escape": (
        lambda: b'{"__metadata__":{"a":"\\ud83d\\ude00' + b"x" * ROOM + b'"}}',
        "not plain ASCII",
    ),
    "shapes of zero that overflow": (
        lambda: b'{"a":{"dtype":"F32","shape":[4611686018427387904,4,0],"data_offsets":[0,0]}}',
        "overflow",
    ),
}


def _read_in_little_memory(path: str, answer: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    try:
        read_header(Path(path))
        answer.put("read")
    except VerificationError as error:
        answer.put("\n".join([error.message, *error.facts]))
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
        answer.put(f"not refused: {error!r}")


@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_100_megabytes_are_refused_in_little_memory(name: str, tmp_path: Path) -> None:
    made, reason = HEADERS[name]
    text = made()
    assert len(text) <= MAX_HEADER_BYTES
    path = tmp_path / "m.safetensors"
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + 8 * MAX_TENSORS)
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    child = context.Process(target=_read_in_little_memory, args=(str(path), answer))
    child.start()
    told = answer.get(timeout=580)
    child.join(timeout=580)
    path.unlink()
    assert reason in told
    assert len(told) < 20_000
