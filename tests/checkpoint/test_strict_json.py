"""JSON of untrusted origin: one meaning or none."""

from __future__ import annotations

import pytest

from pipeline.checkpoint.strict_json import listed, parse_object, printable
from pipeline.errors import VerificationError


def test_an_object_is_parsed_in_its_order() -> None:
    document = parse_object(b'{"b": [1, 2.5, null], "a": {"c": "\xc3\xa9"}}', "config.json")
    assert list(document.items()) == [("b", [1, 2.5, None]), ("a", {"c": "é"})]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not valid JSON"),
        (b"[1]", "not a JSON object"),
        (b"1", "not a JSON object"),
        (b'{"a": 1, "b": 2, "a": 3, "b": 4}', "repeated key `a`, `b`"),
        (b'{"x": {"a": 1, "a": 1}}', "repeated key `a`"),
        (b'{"a": NaN}', "`NaN`"),
        (b'{"a": 1e400}', "out of range"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        (b'{"a": 1} trailing', "not valid JSON"),
        (b'{"a":' * 200_000, "too deeply"),
    ],
)
def test_anything_else_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(VerificationError, match=reason) as caught:
        parse_object(data, "config.json")
    assert "`config.json`" in caught.value.message


def test_names_in_messages_cannot_act_on_the_terminal() -> None:
    assert printable("a\x1b[31m\n") == r"a\x1b[31m\n"
    assert printable("n" * 500) == "n" * 117 + "..."


def test_long_lists_end() -> None:
    assert listed(["x"] * 50) == ["x"] * 50
    assert listed(["x"] * 53)[-1] == "and 3 more"
