"""What a finished build is held against: its rank files, its config.json, its log."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact import Json
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.trtllm.engine_config import (
    check_model,
    check_options,
    check_version,
    read_engine_config,
)
from pipeline.engines.trtllm.follow import BuildLog
from pipeline.engines.trtllm.request import BuildRequest
from pipeline.errors import VerificationError
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.rules import Rule

OURS = ("artifact.json", "attention.json", "engine.json", "timing.cache")
"""Names that are written beside TensorRT-LLM's own, as well as all logs."""

_RANK_FILE = re.compile(r"rank\d+\.engine")

_ATTENTION = re.compile(r"transformer\.layers\.(\d+)\.attention\.dense\.weight")

LEVELS = {
    "recipe": "the command line asks for it",
    "engine config": "the engine's own config.json says so after the builder's corrections",
    "build log": "no rank wrote a fallback message, at a log level that shows them",
    "engine inspector": "not looked at",
    "kernel trace": "not looked at: the engine was not executed while it was built",
}
"""Kinds of evidence, weakest first, and what a build can say of each."""


@dataclass(frozen=True, slots=True)
class CheckedEngine:
    """A build that is as it was asked. `rank_bytes`: size of each rank's files by name."""

    document: Mapping[str, Json]
    rank_bytes: Mapping[str, int]
    not_written: Mapping[str, str]


def check_engine(
    folder: Path,
    checkpoint: TrtllmCheckpoint,
    request: BuildRequest,
    log: BuildLog,
    *,
    installed: str,
    rules: Sequence[Rule],
) -> CheckedEngine:
    """Hold an engine folder against what was asked. Raises VerificationError."""
    check_entries(folder)
    rank_bytes = check_rank_files(folder, request)
    document = read_engine_config(folder)
    check_version(document, installed)
    not_written = check_options(document, request, rules, [f"log: {x}" for x in log.overrides])
    check_model(document, checkpoint.config, request)
    return CheckedEngine(document, rank_bytes, not_written)


def check_entries(folder: Path) -> None:
    """Raise VerificationError where an engine folder holds what cannot be part of an artifact."""
    facts = [
        f"`{path.relative_to(folder)}` is neither a file nor a folder"
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or not (path.is_file() or path.is_dir())
    ]
    facts += [
        f"`{path.name}` is a name that trtllm-pack writes itself"
        for path in sorted(folder.iterdir())
        if path.name in OURS or path.suffix == ".log"
    ]
    if facts:
        raise VerificationError(
            "the build left what is no part of a TensorRT-LLM 1.2 engine", facts=facts
        )


def check_rank_files(folder: Path, request: BuildRequest) -> dict[str, int]:
    """Size of every rank's file. Raises VerificationError unless there is one for each, not empty.

    With `fast_build` the weights of each rank are a file of their own.
    """
    found = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    wanted = [f"rank{rank}.engine" for rank in range(request.world_size)]
    if request.options.get("fast_build"):
        wanted += [f"rank{r}_managed_weights.safetensors" for r in range(request.world_size)]
    facts = [f"`{name}` is missing" for name in wanted if name not in found]
    facts += [f"`{name}` is empty" for name in wanted if found.get(name) == 0]
    extra = [name for name in found if _RANK_FILE.fullmatch(name) and name not in wanted]
    facts += [f"`{name}` is not a rank of {request.world_size}" for name in sorted(extra)]
    if facts:
        raise VerificationError(
            f"the build did not leave one whole engine file for each of its {request.world_size} "
            "ranks",
            facts=facts,
        )
    return {name: found[name] for name in wanted}


def attention_layers(checkpoint: TrtllmCheckpoint) -> int:
    """Layers of the model that have attention, by the tensors of the first rank of each pp rank."""
    firsts = checkpoint.ranks[:: checkpoint.tp_size]
    return sum(len({m[1] for name in rank if (m := _ATTENTION.fullmatch(name))}) for rank in firsts)


def built_answer(
    settings: EngineSettings,
    checkpoint: TrtllmCheckpoint,
    checked: CheckedEngine,
    log: BuildLog,
) -> dict[str, Json]:
    """The answer of the build to how attention is computed (see `attention_proof`).

    It rests on the engine's config.json and on the log. That is good evidence and no more: which
    kernels run is only seen where the engine is executed.
    """
    sites = attention_layers(checkpoint)
    plugins = checked.document["build_config"]["plugin_config"]
    plugin, is_fused = plugins["gpt_attention_plugin"], plugins["context_fmha"]
    answer = {
        "level": "config and log",
        "attention_sites": sites,
        "attention_layers": sites if plugin is not None else 0,
        "plugin": plugin,
        "context_fmha": is_fused,
        "paged_context_fmha": plugins["use_paged_context_fmha"],
        "targets": list(settings.targets),
        "fallbacks": list(log.fallbacks),
    }
    if plugin is None or not is_fused:
        what = "without the attention plugin" if plugin is None else "with context FMHA off"
        evidence = f"the engine's own config.json says that it was built {what}"
        return {**answer, "status": "unfused", "evidence": evidence, "levels": _levels(log, False)}
    if log.fallbacks:
        evidence = f"the build log says that context attention fell back: {log.fallbacks[0]}"
        return {**answer, "status": "unfused", "evidence": evidence, "levels": _levels(log, True)}
    if not log.is_whole:
        evidence = "the build log does not show its last line: warnings may not have been written"
        return {**answer, "status": "unknown", "evidence": evidence, "levels": _levels(log, True)}
    evidence = (
        f"config and log: the engine's own config.json has the attention plugin ({plugin}) and "
        f"context FMHA for all {sites} attention layers, and no rank's log has a fallback message"
    )
    return {**answer, "status": "fused", "evidence": evidence, "levels": _levels(log, True)}


def _levels(log: BuildLog, is_asked: bool) -> dict[str, str]:
    """What was seen of each kind of evidence."""
    found = dict(LEVELS)
    if not is_asked:
        found |= dict.fromkeys(("recipe", "engine config"), "it is off")
    if log.fallbacks:
        found["build log"] = "fallback messages, listed in `fallbacks`"
    elif not log.is_whole:
        found["build log"] = "not whole"
    return found
