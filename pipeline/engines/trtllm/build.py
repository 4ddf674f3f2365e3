"""Builds an engine by `trtllm-build`, checks it, and leaves a whole engine folder or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact import Json, write_json
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.attention_proof import not_observed, proof, write_proof
from pipeline.engines.engine import CONFIG_NAME
from pipeline.engines.trtllm import timing_caches
from pipeline.engines.trtllm.after_build import CheckedEngine, built_answer, check_engine
from pipeline.engines.trtllm.build_endings import build_failure
from pipeline.engines.trtllm.environment import builder_environment
from pipeline.engines.trtllm.follow import BuildLog
from pipeline.engines.trtllm.memory import memory_plan
from pipeline.engines.trtllm.preflight import (
    PACKAGE,
    build_gpus,
    check_free_memory,
    device_names,
    installed_versions,
    machine_problems,
)
from pipeline.engines.trtllm.program import run_supervised
from pipeline.engines.trtllm.record import (
    CHECKPOINT,
    TIMING_CACHE_NAME,
    TIMINGS,
    engine_record,
    timing_cache_record,
)
from pipeline.engines.trtllm.request import PROGRAM, BuildRequest, build_request
from pipeline.errors import MachineError, ToolFailed
from pipeline.hardware import Gpu, Hardware
from pipeline.progress import Progress
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.rules import Rule

BUILD_TERMS = ("weights", "activations", "attention workspace", "CUDA")
"""Terms of the memory plan that a build needs as well."""

_NOT_OBSERVED = "the engine was not executed while it was built"


@dataclass(frozen=True, slots=True)
class _Job:
    """One build: what is asked, where it works, on which GPUs."""

    request: BuildRequest
    checkpoint: TrtllmCheckpoint
    settings: EngineSettings
    work: Path
    gpus: Sequence[Gpu]
    devices: Sequence[str]
    stored_timings: Path | None
    versions: Mapping[str, str]

    @property
    def engine_dir(self) -> Path:
        return self.work / "engine"

    @property
    def timings(self) -> Path:
        return self.work / TIMING_CACHE_NAME


def build_engine(
    checkpoint: TrtllmCheckpoint,
    settings: EngineSettings,
    out_dir: Path,
    progress: Progress,
    *,
    hardware: Hardware,
    cache_dir: Path | None,
    rules: Sequence[Rule],
) -> dict[str, Json]:
    """Carry out a build, check it, fill the engine folder; the facts of it.

    `rules` explain options that end otherwise than asked. Raises MachineError or ResourceError
    where this machine is not fit for it, ToolFailed where the program fails, VerificationError
    where the engine is not what was asked.
    """
    with _work_folder(out_dir) as work:
        job = _prepare(checkpoint, settings, work, cache_dir, hardware)
        log = _run(job, progress)
        checked = check_engine(
            job.engine_dir,
            checkpoint,
            job.request,
            log,
            installed=job.versions[PACKAGE],
            rules=rules,
        )
        _keep_timings(job, progress)
        _move(job, out_dir)
        placeholders = {str(checkpoint.path): CHECKPOINT, str(job.timings): TIMINGS}
        logs = log.write_clean(out_dir, {**placeholders, str(work): "{work}"})
    _write_record(job, checked, out_dir)
    built = built_answer(settings, checkpoint, checked, log)
    write_proof(out_dir, proof(settings.attention, built, not_observed(_NOT_OBSERVED)))
    return _facts(job, checked, built, logs)


def _prepare(
    checkpoint: TrtllmCheckpoint,
    settings: EngineSettings,
    work: Path,
    cache_dir: Path | None,
    hardware: Hardware,
) -> _Job:
    """Hold this machine against what the build needs of it."""
    versions = installed_versions()
    for problem in machine_problems(settings, hardware):
        raise problem.kind(problem.message, hint=problem.hint)
    gpus = build_gpus(settings, hardware)
    if not gpus:
        raise MachineError("no NVIDIA GPU is visible, which TensorRT-LLM needs to build")
    check_free_memory(gpus, build_bytes(checkpoint.config, settings))
    stored = None
    if cache_dir is not None and settings.use_timing_cache:
        stored = timing_caches.cache_path(cache_dir, gpus[0], versions)
    request = build_request(settings, checkpoint.config)
    devices = device_names(gpus, hardware)
    return _Job(request, checkpoint, settings, work, gpus, devices, stored, versions)


def build_bytes(config: Mapping[str, Json], settings: EngineSettings) -> int:
    """GPU memory of building the fullest rank: what the plan has for it, less what only runs.

    The builder holds the weights and tries kernels on steps of the largest size; there is no KV
    cache yet. Inferred, not measured.
    """
    rank = memory_plan(config, settings).fullest
    return sum(rank.size_of(name) for name in BUILD_TERMS)


def _run(job: _Job, progress: Progress) -> BuildLog:
    """Run `trtllm-build` to its end; what it said. Raises where it failed."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise MachineError(f"`{PROGRAM}` is not on PATH")
    given = job.work / "given-timing.cache"
    begins_with_timings = job.stored_timings is not None and timing_caches.take(
        job.stored_timings, given
    )
    argv = job.request.argv(
        job.checkpoint.path.absolute(),
        job.engine_dir,
        input_timing_cache=given if begins_with_timings else None,
        output_timing_cache=job.timings,
    )
    log = BuildLog(
        job.work / "log",
        job.request.world_size,
        is_in_turn=job.request.world_size == 1 or len(job.gpus) == 1,
        progress=progress,
        stop_at_fallback=job.settings.attention.require_fused,
    )
    with log.open():
        ended = run_supervised(
            [program, *argv[1:]],
            builder_environment(job.devices),
            job.work,
            timeout_s=job.settings.build_timeout_s,
            on_line=log.line,
        )
    if ended.code == 0:
        return log
    if begins_with_timings and log.is_timing_cache_bad and job.stored_timings is not None:
        timing_caches.drop(job.stored_timings)
        raise ToolFailed(
            "TensorRT could not read the stored timing cache, which is deleted now",
            facts=log.tail(),
            hint="run again",
        )
    raise build_failure(ended.code, log, job.settings.build_timeout_s)


def _keep_timings(job: _Job, progress: Progress) -> None:
    """For later builds. The engine is whole: where they cannot be kept, later ones are slower."""
    if job.stored_timings is None or not job.timings.is_file():
        return
    try:
        timing_caches.give_back(job.timings, job.stored_timings)
    except OSError as error:
        progress.note(f"the kernel timings could not be kept for later builds: {error.strerror}")


def _move(job: _Job, out_dir: Path) -> None:
    """Everything that the program made is on the disk of `out_dir` already."""
    for path in sorted(job.engine_dir.iterdir()):
        path.rename(out_dir / path.name)
    if job.timings.is_file():
        job.timings.rename(out_dir / TIMING_CACHE_NAME)


def _write_record(job: _Job, checked: CheckedEngine, out_dir: Path) -> None:
    record = engine_record(
        job.checkpoint,
        job.settings,
        job.request,
        checked,
        tools=job.versions,
        gpus=job.gpus,
        timing_cache=timing_cache_record(out_dir / TIMING_CACHE_NAME),
    )
    write_json(out_dir / CONFIG_NAME, record)


def _facts(
    job: _Job, checked: CheckedEngine, built: Mapping[str, Json], logs: list[str]
) -> dict[str, Json]:
    return {
        "backend": "trtllm",
        "tensorrt_llm": job.versions[PACKAGE],
        "targets": list(job.settings.targets),
        "attention": built["status"],
        "attention_sites": built["attention_sites"],
        "attention_layers": built["attention_layers"],
        "world_size": job.request.world_size,
        "rank_bytes": dict(checked.rank_bytes),
        "engine_bytes": sum(checked.rank_bytes.values()),
        "logs": logs,
        "bytes_pinned": False,
        "bytes_pinned_reason": "TensorRT chooses kernels by timing them on the GPU; "
        f"`{TIMING_CACHE_NAME}` narrows the choice",
    }


@contextmanager
def _work_folder(out_dir: Path) -> Iterator[Path]:
    """Where the program works, on the disk of its engine; gone afterwards."""
    work = out_dir.absolute() / ".build"
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work)
