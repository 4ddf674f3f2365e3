"""The streams: data on stdout, the rest on stderr, no secret on either."""

from __future__ import annotations

import json

import pytest

from pipeline.console import Console, format_bytes, printable, render_error, table
from pipeline.errors import (
    MachineError,
    PlanRefused,
    Problem,
    RecipeError,
    ResourceError,
    VerificationError,
)
from pipeline.redaction import redact


def test_an_error_says_what_the_facts_and_what_next() -> None:
    error = VerificationError("`a` is damaged", facts=["`b` is missing"], hint="run again")
    assert render_error(error) == "error: `a` is damaged\n  `b` is missing\n\nhint: run again"


def test_problems_are_told_together_with_their_hints() -> None:
    error = PlanRefused(
        [
            Problem("build", "no kernel", hint="use fp16"),
            Problem("smoke", "no GPU", kind=MachineError, facts=("two", "facts")),
        ]
    )
    assert render_error(error).splitlines() == [
        "error: the plan has 2 problems",
        "",
        "  build: no kernel",
        "    hint: use fp16",
        "",
        "  smoke: no GPU",
        "    two",
        "    facts",
    ]


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ([RecipeError], 3),
        ([MachineError], 4),
        ([ResourceError, ResourceError], 7),
        ([MachineError, ResourceError], 3),
    ],
)
def test_the_exit_code_of_a_refused_plan(kinds: list[type[RecipeError]], code: int) -> None:
    problems = [Problem("build", "x", kind=kind) for kind in kinds]
    assert PlanRefused(problems).exit_code == code


def test_json_mode_answers_an_error_with_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    Console("json").error(RecipeError("bad", facts=["fact"], hint="good"))
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "error": {
            "kind": "RecipeError",
            "exit_code": 3,
            "message": "bad",
            "facts": ["fact"],
            "hint": "good",
        }
    }
    assert not err


def test_human_mode_puts_data_and_errors_on_their_streams(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = Console("human")
    console.result({"a": 1}, "the answer")
    console.error(RecipeError("bad"))
    assert capsys.readouterr() == ("the answer\n", "error: bad\n")


@pytest.mark.parametrize(
    "secret",
    [
        "hf_abcdefghijklmnopqrstuvwxyz",
        "Authorization: Bearer abc.def-123",
        "https://user:password@host.example/x",
        "https://cdn.example/file?X-Amz-Signature=deadbeef&Expires=1",
    ],
)
def test_secrets_never_reach_a_stream(secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    for mode in ("human", "json"):
        Console(mode).error(RecipeError(f"failed: {secret}", hint=secret))
        Console(mode).result({"x": secret}, secret)
    written = "".join(capsys.readouterr())
    for part in ("abcdefghij", "abc.def", "password", "deadbeef"):
        assert part not in written
    assert "[redacted]" in redact(secret)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_940_000, "2.9 MB"), (14e12, "14.0 TB")],
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert format_bytes(int(count)) == text


def test_tables_align() -> None:
    assert table([("a", "long"), ("long", "b")], indent="") == "a     long\nlong  b"


def test_what_a_model_wrote_does_not_drive_the_terminal() -> None:
    assert printable("a\x1b[31mé\n\x07") == "a\ufffd[31mé\n\ufffd"
