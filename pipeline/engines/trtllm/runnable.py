"""Whether an engine can be executed on this machine, by the plan and by what was built."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.engines.attention_proof import PROOF_NAME, read_proof
from pipeline.engines.trtllm.arguments import EngineFacts, engine_facts
from pipeline.engines.trtllm.engine_config import OWN_CONFIG_NAME
from pipeline.engines.trtllm.preflight import PACKAGE, why_no_package
from pipeline.errors import MachineError, VerificationError
from pipeline.hardware import Gpu, Hardware
from pipeline.recipe.schema import EngineSettings


def why_not_executable(
    settings: EngineSettings, hardware: Hardware, num_ranks: int, versions: Mapping[str, str]
) -> str | None:
    """Why an engine for the recipe's targets cannot run on a machine, or None; nothing is started.

    `versions`: what is installed, by distribution.
    """
    present = [gpu for gpu in hardware.gpus if gpu.target in settings.targets]
    if not present:
        found = ", ".join(sorted(hardware.targets)) or "no NVIDIA GPU"
        return f"the engine is for {', '.join(settings.targets)}; present: {found}"
    if len(present) < num_ranks:
        return f"the engine has {num_ranks} ranks, one GPU each; present: {len(present)}"
    return why_no_package(versions.get(PACKAGE))


def read_engine_facts(engine_dir: Path) -> EngineFacts:
    """Of a built engine. Raises VerificationError where the folder is not one."""
    path = engine_dir / OWN_CONFIG_NAME
    try:
        return engine_facts(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VerificationError(f"`{path}` is not of a TensorRT-LLM engine: {error!r}") from None


def engine_gpus(engine_dir: Path, facts: EngineFacts, hardware: Hardware) -> list[Gpu]:
    """One GPU for each rank, of the architecture that the engine's proof names.

    Raises MachineError where there are too few.
    """
    targets: list[str] = []
    if (engine_dir / PROOF_NAME).is_file():
        targets = read_proof(engine_dir)["built"].get("targets", [])
    fitting = [gpu for gpu in hardware.gpus if not targets or gpu.target in targets]
    if len(fitting) < facts.world_size:
        kind = f" of {', '.join(targets)}" if targets else ""
        raise MachineError(
            f"the engine has {facts.world_size} ranks, one GPU{kind} each; visible are "
            f"{len(fitting)}",
            hint="run on a machine with a GPU for each rank",
        )
    return fitting[: facts.world_size]


def check_installed_version(facts: EngineFacts) -> None:
    """Raise MachineError unless the version that built an engine is there: no other runs it."""
    try:
        installed = version(PACKAGE)
    except PackageNotFoundError:
        raise MachineError(
            "`tensorrt_llm` is not installed, which executes the engine",
            hint="run in NVIDIA's container of TensorRT-LLM 1.2",
        ) from None
    if installed != facts.version:
        raise MachineError(
            f"the engine was built by TensorRT-LLM {facts.version}, but {installed} is installed",
            hint="build and run in the same container image",
        )
