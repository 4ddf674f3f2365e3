"""What the output of a failed worker means."""

from __future__ import annotations

import pytest

from pipeline.engines.trtllm.failures import FAILURES, worker_failure
from pipeline.errors import (
    MachineError,
    PipelineError,
    ResourceError,
    ToolFailed,
    VerificationError,
)


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        (
            "[TRT] [E] 6: The engine plan file is not compatible with this version of TensorRT",
            MachineError,
            "another version",
        ),
        (
            "[TRT] [E] 6: The engine plan file is generated on an incompatible device",
            MachineError,
            "another GPU architecture",
        ),
        (
            "[TensorRT-LLM][ERROR] Assertion failed: Expected length (504) != real length (512).",
            MachineError,
            "another version",
        ),
        (
            "[TensorRT-LLM][ERROR] Assertion failed: Failed to deserialize cuda engine.",
            VerificationError,
            "damaged, or of another version",
        ),
        (
            "ValueError: tp_size 4 is not consistent with the engine's tp_size 2",
            ToolFailed,
            "not those of the engine",
        ),
        (
            "RuntimeError: Only 1 GPUs are available, but 2 are required.",
            MachineError,
            "more ranks",
        ),
        ("[host] MPI_ERR_SPAWN: could not spawn processes", MachineError, "MPI could not start"),
        ("ModuleNotFoundError: No module named 'tensorrt_llm'", MachineError, "not installed"),
        ("ValueError: _TrtLLM got invalid argument: x", ToolFailed, "does not take an argument"),
        ("RequestError: something else", ToolFailed, "exit code 1 and no answer"),
    ],
)
def test_lines_of_the_log_have_their_meaning(
    line: str, kind: type[PipelineError], message: str
) -> None:
    stack = ["Traceback (most recent call last):", '  File "/x.py", line 1, in <module>', "    x()"]
    after = [f"[TensorRT-LLM][INFO] {number}" for number in range(30)]
    error = worker_failure(1, ["banner", *stack, line, *after], 5)
    assert type(error) is kind
    assert message in error.message
    assert not any("Traceback" in fact or "x()" in fact for fact in error.facts)
    assert (line in error.facts) is (message != "exit code 1 and no answer")


def test_the_rows_of_failures_are_whole() -> None:
    for row in FAILURES:
        assert row.message
        assert row.hint
        assert "," in row.source
    assert isinstance(worker_failure(137, [], 5), ResourceError)
