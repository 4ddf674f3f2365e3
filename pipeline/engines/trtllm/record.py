"""What an engine folder says about an engine of TensorRT-LLM, beside that one's own record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.artifact import Json
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.trtllm.after_build import CheckedEngine
from pipeline.engines.trtllm.request import BuildRequest
from pipeline.files.digests import digest_file
from pipeline.hardware import Gpu
from pipeline.recipe.schema import EngineSettings

TIMING_CACHE_NAME = "timing.cache"
"""In the engine folder: who builds with it as `--input_timing_cache` gets the same kernels chosen,
as far as TensorRT allows."""

CHECKPOINT, ENGINE, TIMINGS = "{checkpoint}", "{engine}", "{timing_cache}"
"""What a recorded command line has for paths."""


def recorded_argv(request: BuildRequest) -> list[str]:
    """The command line without what differs from run to run.

    Left out as well is what decides no engine: how many ranks are built at a time, and whether an
    earlier timing cache was there to begin with.
    """
    options = {name: value for name, value in request.options.items() if name != "workers"}
    return replace(request, options=options).argv(
        Path(CHECKPOINT),
        Path(ENGINE),
        input_timing_cache=None,
        output_timing_cache=Path(TIMINGS),
    )


def engine_record(
    checkpoint: TrtllmCheckpoint,
    settings: EngineSettings,
    request: BuildRequest,
    checked: CheckedEngine,
    *,
    tools: Mapping[str, str],
    gpus: Sequence[Gpu],
    timing_cache: Mapping[str, Json] | None,
) -> dict[str, Json]:
    """What people and tools need to know of the engine; `argv` and `build_config` are equivalent.

    `build_config` is what `trtllm-build --build_config` reads, but for its `plugin_config`: that
    program takes plugin options from the command line alone (TensorRT-LLM 1.x `commands/build.py`).
    """
    return {
        "backend": "trtllm",
        "dtype": checkpoint.config["dtype"],
        "max_batch_size": settings.max_batch_size,
        "max_input_len": settings.max_input_len,
        "max_seq_len": settings.max_seq_len,
        "max_num_tokens": request.options["max_num_tokens"],
        "targets": list(settings.targets),
        "tool_versions": dict(tools),
        "built_on": {
            "gpus": sorted({gpu.name for gpu in gpus}),
            "drivers": sorted({gpu.driver for gpu in gpus}),
        },
        "checkpoint": dict(checkpoint.config),
        "world_size": request.world_size,
        "rank_bytes": dict(checked.rank_bytes),
        "argv": recorded_argv(request),
        "build_config": request.build_config(),
        "options_not_written": dict(checked.not_written),
        "timing_cache": None if timing_cache is None else dict(timing_cache),
    }


def timing_cache_record(path: Path) -> dict[str, Json] | None:
    """Name, size and digest of the timing cache of an engine folder, or None without one."""
    if not path.is_file():
        return None
    size_bytes = path.stat().st_size
    return {"path": path.name, "size_bytes": size_bytes, "blake3": digest_file(path)}
