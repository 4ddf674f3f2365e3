"""The process that runs an engine: `python -m pipeline.engines.trtllm.worker JOB.json`.

It appends JSON lines to the file that the job names: `loaded`, one `generation` per request,
`trace` where a traced pass was asked for, and `done`. A file, because stdout is shared with MPI's
launchers and with what TensorRT-LLM prints. What it raises is for its stderr: the process that
started it reads that and knows what it means (`failures`).

Imports TensorRT-LLM, and torch, which comes with it. The import is inside of `main`: ranks that MPI
starts import this module again.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.engines.trtllm.trace import traced_names


def main(job_path: str) -> int:
    """Carry out one job."""
    job: dict[str, Any] = json.loads(Path(job_path).read_bytes())
    import tensorrt_llm
    from tensorrt_llm._tensorrt_engine import LLM
    from tensorrt_llm.llmapi import KvCacheConfig, SamplingParams

    cache = KvCacheConfig(**job["kv_cache_config"])
    with Path(job["events"]).open("a", encoding="utf-8") as events:

        def tell(**event: Any) -> None:
            events.write(json.dumps(event) + "\n")
            events.flush()

        with LLM(**job["llm"], kv_cache_config=cache) as llm:
            tell(event="loaded", version=tensorrt_llm.__version__)
            _generate(llm, SamplingParams, job, tell)
            if job["trace"] is not None:
                _trace(llm, SamplingParams, job["trace"], tell)
            tell(event="done")
            _end_within(job["end_timeout_s"])
    return 0


def _generate(llm: Any, sampling_params: Any, job: dict[str, Any], tell: Any) -> None:
    """All requests as one batch; TensorRT-LLM schedules them within the engine's limits."""
    requests = job["requests"]
    if not requests:
        return
    results = llm.generate(
        [request["token_ids"] for request in requests],
        [sampling_params(**request["sampling"]) for request in requests],
        use_tqdm=False,
    )
    for index, result in enumerate(results):
        (output,) = result.outputs
        tell(
            event="generation",
            index=index,
            token_ids=[int(token_id) for token_id in output.token_ids],
            finish_reason=output.finish_reason,
            stop_reason=output.stop_reason,
            logits=_save_logits(result.context_logits, job, index),
        )


def _save_logits(logits: Any, job: dict[str, Any], index: int) -> str | None:
    """Write a tensor `[prompt tokens, padded vocabulary]` as float32; the file's name."""
    if logits is None:
        return None
    import numpy as np

    name = f"logits-{index}.npy"
    np.save(Path(job["folder"]) / name, logits.float().cpu().numpy())
    return name


def _trace(llm: Any, sampling_params: Any, trace: dict[str, Any], tell: Any) -> None:
    """A pass over a prompt alone, then one with generation steps, under the profiler if asked.

    `profiler: torch` needs the kernels to be of this process; with `nsys`, which watches all
    processes from outside, there is nothing to do here but to run.
    """

    def run(num_tokens: int) -> None:
        params = sampling_params(**{**trace["sampling"], "max_tokens": num_tokens})
        llm.generate([trace["token_ids"]], [params], use_tqdm=False)

    counts = {"context": 1, "generation": trace["num_steps"]}
    if trace["profiler"] == "torch":
        names = {phase: traced_names(partial(run, count)) for phase, count in counts.items()}
        tell(event="trace", **names)
    else:
        for count in counts.values():
            run(count)


def _end_within(seconds: float) -> None:
    """Give the shutdown that follows its time, and no more: the results stand whatever it does."""
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
