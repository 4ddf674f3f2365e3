"""Kernel names out of profiles: of torch, and of Nsight Systems."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.engines.trtllm.arguments import EngineFacts
from pipeline.engines.trtllm.trace import (
    NUM_STEPS,
    PROMPT_TOKENS,
    kernel_names,
    nsys_command,
    nsys_names,
    trace_prompt,
)
from pipeline.errors import ToolFailed

FACTS = EngineFacts("1.2.1", 1, 1, 1, 8, 1024, 2048, 4096, False)


@dataclass
class Event:
    """As torch.profiler gives them."""

    name: str
    device_type: object


class DeviceType:
    """Prints as torch's enumeration does."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return f"DeviceType.{self.name}"


GPU, CPU = DeviceType("CUDA"), DeviceType("CPU")


def test_kernels_are_what_ran_on_the_gpu_and_did_not_only_copy() -> None:
    events = [
        Event("kernel_mha", GPU),
        Event("kernel_mha", GPU),
        Event("Memcpy DtoH (Device -> Pinned)", GPU),
        Event("Memset (Device)", GPU),
        Event("cudaLaunchKernel", CPU),
        Event("aten::mm", CPU),
        Event("ampere_fp16_s16816gemm", GPU),
    ]
    assert kernel_names(events) == ["ampere_fp16_s16816gemm", "kernel_mha"]
    assert kernel_names([]) == []


@pytest.mark.parametrize(
    ("limits", "length"),
    [
        ({}, PROMPT_TOKENS),
        ({"max_input_len": 100}, 100),
        ({"max_num_tokens": 64}, 64),
        ({"max_seq_len": 40}, 40 - NUM_STEPS),
        ({"max_seq_len": 4}, 1),
    ],
)
def test_the_traced_prompt_fits_the_engine(limits: dict[str, int], length: int) -> None:
    facts = EngineFacts(
        **{name: getattr(FACTS, name) for name in FACTS.__slots__ if name not in limits}, **limits
    )
    prompt = trace_prompt([5, 6, 7], facts)
    assert len(prompt) == length
    assert prompt[:4] == [5, 6, 7, 5][:length]


def write_report(folder: Path, kernels: tuple[str, ...]) -> None:
    """The tables of an exported report that are read."""
    with sqlite3.connect(folder / "trace.sqlite") as database:
        database.execute("CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT)")
        database.execute(
            "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER, demangledName INTEGER)"
        )
        for number, name in enumerate(("cudaLaunchKernel", *kernels)):
            database.execute("INSERT INTO StringIds VALUES (?, ?)", (number, name))
            if number:
                for start in range(2):
                    row = (start, number)
                    database.execute("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?, ?)", row)
    database.close()


def test_names_of_all_ranks_come_from_the_exported_report(tmp_path: Path) -> None:
    write_report(tmp_path, ("kernel_mha", "fmha_v2_x"))
    assert nsys_names(tmp_path) == ["fmha_v2_x", "kernel_mha"]
    command = nsys_command("/opt/nsys", tmp_path)
    assert command[:2] == ["/opt/nsys", "profile"]
    assert f"--output={tmp_path / 'trace'}" in command
    assert "--export=sqlite" in command


def test_a_missing_or_empty_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="wrote no report"):
        nsys_names(tmp_path)
    sqlite3.connect(tmp_path / "trace.sqlite").close()
    (tmp_path / "trace.sqlite").touch()
    with pytest.raises(ToolFailed, match="has no kernels"):
        nsys_names(tmp_path)
