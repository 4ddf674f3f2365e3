"""A built engine of TensorRT-LLM as a `Generator`: it runs in a process of its own, supervised.

Each `generate` loads the engine, generates for all prompts, and ends the process. The first one
traces a pass too. Never executed by us with the real TensorRT-LLM: names and behaviour are from its
source, and the tests run a stand-in that is generated from the same facts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.artifact import Json
from pipeline.engines.attention_proof import not_observed
from pipeline.engines.generation import Generation, OnToken, Sampling
from pipeline.engines.generator import GenerationRequest
from pipeline.engines.trtllm.answers import check_whole, read_events, read_generation
from pipeline.engines.trtllm.arguments import (
    EngineFacts,
    kv_cache_arguments,
    llm_arguments,
    sampling_arguments,
)
from pipeline.engines.trtllm.failures import worker_failure
from pipeline.engines.trtllm.launch import choose_launcher, worker_command, worker_environment
from pipeline.engines.trtllm.program import run_supervised
from pipeline.engines.trtllm.runnable import (
    check_installed_version,
    engine_gpus,
    read_engine_facts,
)
from pipeline.engines.trtllm.trace import NUM_STEPS, nsys_command, nsys_names, trace_prompt
from pipeline.errors import PipelineError
from pipeline.files.scratch import scratch_folder
from pipeline.hardware import Gpu, detect
from pipeline.trtllm.kernels import classify

DEFAULT_TIMEOUT_S = 1800.0

END_TIMEOUT_S = 60.0
"""Time for TensorRT-LLM to shut down once all results are written."""

_NO_NSYS = (
    "the kernels of several ranks run in processes of their own, and `nsys`, which can watch them, "
    "is not installed"
)


def open_generator(engine_dir: Path, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> TrtllmGenerator:
    """Look at a built engine; nothing is started. `timeout_s` is for loading and generating.

    Raises VerificationError where the folder is not an engine, MachineError where the installed
    TensorRT-LLM is not the one that built it, or there are too few GPUs.
    """
    facts = read_engine_facts(engine_dir)
    check_installed_version(facts)
    return TrtllmGenerator(engine_dir, facts, engine_gpus(engine_dir, facts, detect()), timeout_s)


class TrtllmGenerator:
    """See `pipeline.engines.generator.Generator`."""

    def __init__(
        self, engine_dir: Path, facts: EngineFacts, gpus: Sequence[Gpu], timeout_s: float
    ) -> None:
        self._engine_dir = engine_dir
        self._facts = facts
        self._device = ", ".join(dict.fromkeys(gpu.name for gpu in gpus))
        devices = [gpu.device for gpu in gpus if gpu.device is not None]
        self._environment = worker_environment(
            facts.world_size, devices if len(devices) == len(gpus) else []
        )
        self._timeout_s = timeout_s
        self._launcher = choose_launcher(facts.world_size)
        self._observed: Mapping[str, Json] | None = None

    @property
    def executed_by(self) -> Mapping[str, str]:
        """TensorRT-LLM, the GPUs, and how many ranks."""
        number = self._facts.world_size
        ranks = "one rank" if number == 1 else f"{number} ranks, started by {self._launcher.name}"
        return {
            "backend": "trtllm",
            "version": self._facts.version,
            "device": self._device,
            "note": f"the engine, by the `LLM` class of TensorRT-LLM {self._facts.version}, "
            f"{ranks}, asked for deterministic kernels",
        }

    def observed(self) -> Mapping[str, Json] | None:
        """The kernels of the traced pass of the first `generate`."""
        return self._observed

    def generate(
        self, requests: Sequence[GenerationRequest], on_token: OnToken | None = None
    ) -> list[Generation]:
        """Run the worker; then go through its texts token by token."""
        in_process = self._facts.world_size == 1
        first = self._observed is None
        trace = self._trace(requests[0], "torch") if first and in_process else None
        with scratch_folder() as folder:
            events = self._run(folder, requests, trace)
            check_whole(events, len(requests), is_traced=trace is not None)
            found = [
                read_generation(index, request, events, folder, on_token)
                for index, request in enumerate(requests)
            ]
        if trace is not None:
            (event,) = (event for event in events if event["event"] == "trace")
            self._observe(event["context"], event["generation"], trace, "torch.profiler (CUPTI)")
        elif first:
            self._trace_ranks(requests[0])
        return found

    def _trace_ranks(self, request: GenerationRequest) -> None:
        """A second run of the worker, watched by `nsys`: its failure is no failure of the engine.

        The two passes are not told apart there; see `classify`.
        """
        program = shutil.which("nsys")
        if program is None:
            self._observed = not_observed(_NO_NSYS)
            return
        trace = self._trace(request, "nsys")
        with scratch_folder() as folder:
            try:
                self._run(folder, [], trace, nsys_command(program, folder))
                names = nsys_names(folder)
            except PipelineError as error:
                self._observed = not_observed(f"the traced pass failed: {error.message}")
                return
        self._observe(names, names, trace, "Nsight Systems (CUPTI), all ranks")

    def _trace(self, request: GenerationRequest, profiler: str) -> dict[str, Json]:
        """The traced pass as a job; no token ends it."""
        token_ids = trace_prompt(request.token_ids, self._facts)
        traced = GenerationRequest(tuple(token_ids), Sampling(NUM_STEPS))
        return {
            "profiler": profiler,
            "token_ids": token_ids,
            "num_steps": NUM_STEPS,
            "sampling": sampling_arguments(traced, self._facts),
        }

    def _observe(
        self,
        context: Sequence[str],
        generation: Sequence[str],
        trace: Mapping[str, Json],
        tool: str,
    ) -> None:
        self._observed = {
            **classify(context, generation),
            "device": self._device,
            "evidence": f"kernel names by {tool}: a prompt of {len(trace['token_ids'])} tokens, "
            f"then {trace['num_steps']} generated ones",
        }

    def _run(
        self,
        folder: Path,
        requests: Sequence[GenerationRequest],
        trace: Mapping[str, Json] | None,
        prefix: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """The worker's events, `done` among them. Raises the error that its output means."""
        job, events = folder / "worker.json", folder / "events.jsonl"
        document = {
            "folder": str(folder),
            "events": str(events),
            "llm": llm_arguments(str(self._engine_dir.absolute()), self._facts),
            "kv_cache_config": kv_cache_arguments(),
            "requests": [
                {
                    "token_ids": list(request.token_ids),
                    "sampling": sampling_arguments(request, self._facts),
                }
                for request in requests
            ],
            "trace": trace,
            "end_timeout_s": END_TIMEOUT_S,
        }
        job.write_text(json.dumps(document), encoding="utf-8")
        output: list[str] = []
        ended = run_supervised(
            [*prefix, *worker_command(self._launcher, job)],
            self._environment,
            folder,
            timeout_s=self._timeout_s,
            on_line=lambda _stream, line: output.append(line),
            is_temporary=True,
        )
        found = read_events(events)
        if not found or found[-1]["event"] != "done":
            raise worker_failure(ended.code, output, self._timeout_s)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing runs between calls."""
