"""The streams: data on stdout, the rest on stderr, no secret on either."""

from __future__ import annotations

import json

import pytest

from pipeline.console import (
    Console,
    error_document,
    format_bytes,
    printable,
    problem_document,
    render_error,
    render_problem,
    table,
)
from pipeline.errors import (
    LockedError,
    MachineError,
    PipelineError,
    PlanRefused,
    Problem,
    RecipeError,
    RemoteError,
    ResourceError,
    ToolFailed,
    UsageError,
    VerificationError,
    advising,
)
from pipeline.redaction import redact


def test_an_error_says_what_the_facts_and_what_next() -> None:
    error = VerificationError("`a` is damaged", facts=["`b` is missing"], hint="run again")
    assert render_error(error) == "error: `a` is damaged\n  `b` is missing\n\nhint: run again"


KINDS = [
    *(ToolFailed, UsageError, RecipeError, MachineError, RemoteError, VerificationError),
    *(ResourceError, LockedError),
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_without_a_hint_has_that_of_its_kind(kind: type[PipelineError]) -> None:
    told = f"hint: {kind.usual_hint}"
    assert render_error(kind("failed")).splitlines()[-1] == told
    assert error_document(kind("failed"))["hint"] == kind.usual_hint
    problem = Problem("build", "failed", kind=kind)
    assert render_problem(problem)[-1] == f"    {told}"
    assert problem_document(problem)["hint"] == kind.usual_hint


def test_every_kind_of_error_has_a_hint() -> None:
    assert all(kind.usual_hint for kind in KINDS)
    ours = {kind for kind in PipelineError.__subclasses__() if kind.__module__ == "pipeline.errors"}
    assert ours == {*KINDS, PlanRefused}


def test_an_empty_hint_says_that_the_facts_have_theirs() -> None:
    error = RecipeError("bad", facts=["wrong\n  hint: right"], hint="")
    assert render_error(error).splitlines()[-1] == "    hint: right"
    assert error_document(error)["hint"] is None


def test_advice_is_for_errors_of_a_kind_that_have_none() -> None:
    def hint_of_raised(error: PipelineError) -> str | None:
        with pytest.raises(PipelineError) as caught, advising(VerificationError, "fetch it again"):
            raise error
        return caught.value.hint

    assert hint_of_raised(VerificationError("bad")) == "fetch it again"
    assert hint_of_raised(VerificationError("bad", hint="own")) == "own"
    assert hint_of_raised(MachineError("bad")) is None


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
        "    hint: `trtllm-pack doctor` says what this machine has and lacks",
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
    console.error(RecipeError("bad", hint="good"))
    assert capsys.readouterr() == ("the answer\n", "error: bad\n\nhint: good\n")


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
