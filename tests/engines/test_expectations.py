"""Expectations of the smoke test and the lines that show what differs."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.engines.expectations import check
from pipeline.engines.generation import Generation
from pipeline.recipe.smoke_section import Expect

DONE = Generation((4, 5, 6), "length")


def faults(got: str, **expect: Any) -> list[str]:
    return [fault for found in check(Expect(**expect), got, DONE) for fault in found.faults]


def test_what_holds_has_no_faults() -> None:
    outcomes = check(
        Expect(
            text=" Paris.",
            contains="Par",
            regex=r"\.$",
            token_ids=(4, 5, 6),
            min_tokens=3,
            stop_reason="length",
        ),
        " Paris.",
        DONE,
    )
    assert [outcome.as_json() for outcome in outcomes] == [
        {"kind": "text", "expected": " Paris.", "holds": True},
        {"kind": "contains", "expected": "Par", "holds": True},
        {"kind": "regex", "expected": r"\.$", "holds": True},
        {"kind": "token_ids", "expected": [4, 5, 6], "holds": True},
        {"kind": "min_tokens", "expected": 3, "holds": True},
        {"kind": "stop_reason", "expected": "length", "holds": True},
    ]


def test_nothing_expected_is_nothing_checked() -> None:
    assert check(Expect(), "anything", DONE) == []


def test_a_text_that_differs_is_shown_with_a_caret() -> None:
    assert faults("of the sea\nand fog", text="of the sea\nand sky") == [
        "`text` differs from character 15 on",
        r"  expected |of the sea\nand sky|",
        r"  got      |of the sea\nand fog|",
        f"{chr(32) * 28}^",
    ]
    _, _, got, caret = faults("of the sea\nand fog", text="of the sea\nand sky")
    assert got[caret.index("^")] == "f"


@pytest.mark.parametrize(("got", "place"), [("abc", 3), ("abcdef", 4), ("", 0)])
def test_a_text_that_ends_early_or_late_differs_at_its_end(got: str, place: int) -> None:
    assert faults(got, text="abcd")[0] == f"`text` differs from character {place} on"


def test_a_long_text_is_shown_around_the_difference() -> None:
    text = "x" * 100
    _, expected, got, caret = faults(text + "B" + text, text=text + "A" + text)
    assert expected == f"  expected |...{'x' * 30}A{'x' * 29}...|"
    assert got[caret.index("^")] == "B"


@pytest.mark.parametrize(
    ("expect", "fault"),
    [
        ({"contains": "Rome"}, "`contains`: 'Rome' is not in the text"),
        ({"regex": "^R"}, "`regex`: '^R' is not found in the text"),
        ({"token_ids": (4, 9, 6)}, "`token_ids` differ from token 1 on"),
        ({"token_ids": (4, 5)}, "`token_ids` differ from token 2 on"),
        ({"min_tokens": 4}, "`min_tokens`: 3 tokens were generated, expected 4 or more"),
        ({"stop_reason": "end"}, "`stop_reason` is `length`, expected `end`"),
    ],
)
def test_each_kind_says_what_failed(expect: dict[str, Any], fault: str) -> None:
    assert faults(" Paris.", **expect)[0] == fault
