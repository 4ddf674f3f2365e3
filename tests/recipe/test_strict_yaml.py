"""The YAML that recipes may use: values, places, and what is refused."""

from __future__ import annotations

import time

import pytest

from pipeline.recipe.mistakes import Origin
from pipeline.recipe.nodes import MapNode, Plain, find_key_mark, find_node, plain
from pipeline.recipe.plain_scalars import quote_if_needed, resolve_plain
from pipeline.recipe.strict_yaml import MAX_BYTES, parse_bytes, parse_text
from pipeline.recipe.yaml_syntax import MAX_DEPTH


def _values(text: str) -> Plain:
    parsed = parse_bytes(text.encode(), "x.yaml")
    assert parsed.mistakes == ()
    assert parsed.node is not None
    return plain(parsed.node)


def _messages(data: bytes) -> list[str]:
    return [mistake.message for mistake in parse_bytes(data, "x.yaml").mistakes]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-12", -12),
        ("+3", 3),
        ("1.10", 1.1),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("-1.5E-3", -0.0015),
        # What YAML 1.1 reads as something else, or what readers disagree about, is text.
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("off", "off"),
        ("012", "012"),
        ("0o14", "0o14"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2024-01-01", "2024-01-01"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("tRUE", "tRUE"),
        ("1.2.3", "1.2.3"),
        ("e3", "e3"),
        ("-", "-"),
    ],
)
def test_plain_scalars_follow_the_core_schema(text: str, value: object) -> None:
    found = resolve_plain(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["9223372036854775808", "-9223372036854775809", "1e999", "9" * 9999]
)
def test_numbers_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(OverflowError):
        resolve_plain(text)


def test_quoted_scalars_are_text() -> None:
    assert _values("a: 'true'\nb: \"1\"\nc: |\n  5\nd: ''\n") == {
        "a": "true",
        "b": "1",
        "c": "5\n",
        "d": "",
    }


@pytest.mark.parametrize(
    "text",
    ["x", "7b", "1.10", "null", "", " a", "a: b", "#", "-", "- a", "[a]", '"', "\\", "\x7f\n", "é"],
)
def test_quoting_keeps_text(text: str) -> None:
    for line in (f"a: {quote_if_needed(text)}", f"{{a: {quote_if_needed(text)}}}"):
        assert _values(line) == {"a": text}


def test_every_key_and_value_has_its_place() -> None:
    node = parse_text("a: 1\nb:\n  - x\n  - {c: 'y'}\n", Origin("x.yaml", ("",) * 4)).node
    assert node is not None
    key, value = find_key_mark(node, ("b", 1, "c")), find_node(node, ("b", 1, "c"))
    assert key is not None
    assert value is not None
    assert (key.line, key.column, key.num_chars) == (4, 6, 1)
    assert (value.mark.line, value.mark.column, value.mark.num_chars) == (4, 9, 3)
    assert find_node(node, ("b", 2)) is None
    assert find_node(node, ("a", "c")) is None


def test_a_byte_order_mark_and_other_line_ends_are_accepted() -> None:
    parsed = parse_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\rc: 3", "x.yaml")
    assert parsed.mistakes == ()
    assert isinstance(parsed.node, MapNode)
    assert plain(parsed.node) == {"a": 1, "b": 2, "c": 3}
    assert parsed.node.entries["a"].key_mark.column == 1
    assert parsed.node.entries["c"].key_mark.line == 3


def test_mistakes_are_gathered_and_the_rest_is_read() -> None:
    parsed = parse_bytes(b"a: &x 1\na: 2\nb: *x\nc: !!int 3\n5: 6\n<<: *x\nd: 4\n", "x.yaml")
    assert [(each.mark.line, each.message) for each in parsed.mistakes] == [
        (1, "the anchor `&x` is not allowed"),
        (2, "duplicate key `a`: it was first given in line 1"),
        (3, "the alias `*x` is not allowed"),
        (4, "the tag `!!int` is not allowed"),
        (5, "the key `5` is not text"),
        (6, "the merge key `<<` is not allowed"),
    ]
    assert parsed.node is not None
    assert plain(parsed.node) == {"a": 1, "d": 4}


def test_bytes_that_are_not_utf8_are_refused() -> None:
    assert _messages(b"a: 1\nb: \xff") == ["byte 8 (line 2) is not UTF-8: 0xff"]
    assert _messages(b"\xef\xbb\xbfa: \xff") == ["byte 6 (line 1) is not UTF-8: 0xff"]
    assert _messages("a: 1".encode("utf-16")) == ["byte 0 (line 1) is not UTF-8: 0xff"]


def test_a_large_file_is_refused() -> None:
    assert _messages(b"a: 1\n" + b"#" * (MAX_BYTES - 5)) == []
    assert _messages(b"a: 1\n" + b"#" * (MAX_BYTES - 4)) == [
        "the file is larger than 1048576 bytes"
    ]


def test_nesting_is_limited() -> None:
    for begin, end in (("[", "]"), ("{a: ", "}")):
        assert _messages((begin * MAX_DEPTH + "1" + end * MAX_DEPTH).encode()) == []
        deeper = (begin * (MAX_DEPTH + 1) + "1" + end * (MAX_DEPTH + 1)).encode()
        assert _messages(deeper) == ["nesting is deeper than 20 levels"]


@pytest.mark.parametrize(
    "text",
    ["[" * MAX_BYTES, "{a: " * (MAX_BYTES // 4), "- " * (MAX_BYTES // 2), "? " * (MAX_BYTES // 2)],
    ids=["lists", "mappings", "block lists", "complex keys"],
)
def test_hostile_nesting_is_refused_at_once(text: str) -> None:
    start = time.process_time()
    assert _messages(text.encode()) == ["nesting is deeper than 20 levels"]
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: \t1\n", "tab characters are not allowed"),
        ("a: \ufeffx\n", "the character U+FEFF is not allowed"),
        ("a: \x00\n", "the character U+0000 is not allowed"),
        ('a: "\\ud800"', "this escape is no Unicode character"),
        ("a: !x!y 1", "no value can begin with `!`"),
        ("a: *", "no value can begin with `*` or `&`"),
        ("- a\nb: 1", "a list item is expected here"),
        ("a: 1\n...\nb: 2", "the recipe ended above this line"),
        ("%FOO x\n---\na: 1", "this is not YAML: found unknown directive name"),
    ],
)
def test_what_is_no_yaml_is_explained(text: str, message: str) -> None:
    assert _messages(text.encode()) == [message]
