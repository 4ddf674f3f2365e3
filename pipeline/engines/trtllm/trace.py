"""Names of the CUDA kernels that a piece of work ran: by torch.profiler, or by Nsight Systems.

With one rank, TensorRT-LLM can keep its worker in our process (TLLM_WORKER_USE_SINGLE_PROCESS=1;
source: TensorRT-LLM 1.2, executor/executor.py), where torch's profiler sees all kernels, those of
other threads too (CUPTI watches a process). With several ranks, MPI starts one process for each:
there `nsys` watches the whole tree from outside. `traced_names` was executed on an H100 with torch
2.11 (kernels of other threads included); the report of `nsys` was not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from pipeline.engines.trtllm.arguments import EngineFacts
from pipeline.errors import ToolFailed

PROMPT_TOKENS = 512
"""Tokens of the traced prompt, where the engine takes so many: short ones may use other kernels."""

NUM_STEPS = 8
"""Tokens that the traced generation yields."""

REPORT_NAME = "trace"

_NO_KERNELS = ("Memcpy", "Memset", "[memory]")
"""Beginnings of what CUPTI reports on the GPU beside kernels."""


class Event(Protocol):
    """What is used of an event of torch.profiler (torch 2.9, `torch.autograd.profiler_util`)."""

    name: str
    device_type: Any


def trace_prompt(token_ids: Sequence[int], facts: EngineFacts) -> list[int]:
    """Some tokens, repeated until they are `PROMPT_TOKENS`, or what fits the engine."""
    room = facts.max_seq_len - NUM_STEPS
    length = max(1, min(PROMPT_TOKENS, facts.max_input_len, facts.max_num_tokens, room))
    return [token_ids[place % len(token_ids)] for place in range(length)]


def traced_names(run: Callable[[], None]) -> list[str]:
    """Distinct names of the kernels that this process ran on its GPU during `run`, sorted."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize()
    return kernel_names(profiler.events())


def kernel_names(events: Iterable[Event]) -> list[str]:
    """Distinct kernel names among a profile's events: those on the GPU that only copy left out."""
    names = {
        event.name
        for event in events
        if str(event.device_type).rpartition(".")[2] == "CUDA"
        and not event.name.startswith(_NO_KERNELS)
    }
    return sorted(names)


def nsys_command(program: str, folder: Path) -> list[str]:
    """What to put before a command line: its report is written to `folder` when it ends."""
    return [
        program,
        "profile",
        "--trace=cuda",
        "--sample=none",
        "--cpuctxsw=none",
        "--cuda-graph-trace=node",
        "--export=sqlite",
        "--force-overwrite=true",
        f"--output={folder / REPORT_NAME}",
    ]


def nsys_names(folder: Path) -> list[str]:
    """Distinct kernel names of all processes, from the exported report (Nsight Systems, SQLite).

    Raises ToolFailed where there is none, or none with kernels.
    """
    path = folder / f"{REPORT_NAME}.sqlite"
    if not path.is_file():
        raise ToolFailed("`nsys` wrote no report of the traced pass")
    query = (
        "SELECT DISTINCT names.value FROM CUPTI_ACTIVITY_KIND_KERNEL AS kernels "
        "JOIN StringIds AS names ON names.id = kernels.demangledName"
    )
    try:
        with closing(sqlite3.connect(path)) as database:
            rows = database.execute(query).fetchall()
    except sqlite3.Error as error:
        raise ToolFailed(f"the report of `nsys` has no kernels: {error}") from None
    return sorted(str(name) for (name,) in rows)
