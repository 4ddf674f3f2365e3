"""The whole examination, as one document. No network request is made."""

from __future__ import annotations

from pathlib import Path

from pipeline.artifact import Json
from pipeline.doctor.backends import backend_facts
from pipeline.doctor.drift import Difference, find_drift
from pipeline.doctor.installed import Installed
from pipeline.doctor.machine import container_facts, gpu_facts, machine_facts, why_bytes_vary
from pipeline.doctor.sections import expected_sections
from pipeline.doctor.software import (
    modelscope_facts,
    package_facts,
    program_facts,
    python_facts,
    token_facts,
)
from pipeline.hardware import detect

GIGABYTE = 10**9

NETWORK = "not tested: no request is made; `trtllm-pack plan RECIPE` asks the hub"


def examine(store_dir: Path, installed: Installed | None) -> dict[str, Json]:
    """Everything that `trtllm-pack doctor` tells, for `--json`; sizes in bytes.

    `installed` is what `read_installed` found: None where there is no TensorRT-LLM.
    """
    hardware = detect()
    container = container_facts()
    why_random = why_bytes_vary()
    gpus = gpu_facts(hardware)
    return {
        **python_facts(),
        "machine": machine_facts(hardware, store_dir),
        "gpu": gpus,
        "container": container,
        "reproducible_bytes": {"possible": why_random is None, "why_not": why_random},
        "backends": backend_facts(hardware),
        "packages": package_facts(),
        "programs": program_facts(),
        "hub": {"token": token_facts(), "reachable": NETWORK},
        "modelscope": {"token": modelscope_facts(), "reachable": NETWORK},
        "tensorrt_llm": drift_document(installed),
        "advice": advice(container, why_random, num_gpus=len(gpus["gpus"])),
    }


def drift_document(installed: Installed | None) -> dict[str, Json]:
    """`matters` and `harmless` differences, and what could not be read."""
    if installed is None:
        return {"installed": False, "versions": {}, "unread": {}, "matters": [], "harmless": []}
    drift = drift_of(installed)
    told: dict[str, list[Json]] = {"matters": [], "harmless": []}
    for difference in drift:
        told[difference.severity].append(difference.document())
    return {
        "installed": True,
        "versions": dict(installed.versions),
        "unread": dict(installed.unread),
        **told,
    }


def drift_of(installed: Installed) -> list[Difference]:
    """The installed TensorRT-LLM against the facts of this project."""
    return find_drift(expected_sections(), installed.sections)


def advice(container: dict[str, Json], why_random: str | None, *, num_gpus: int) -> list[str]:
    """What to change about this machine or container, if one of these is what fails."""
    told = []
    shared = container["shared_memory_bytes"]
    if num_gpus > 1 and shared is not None and shared < GIGABYTE:
        told.append(
            f"`/dev/shm` has {shared // 10**6} MB, little for the ranks of several GPUs: start the "
            "container with `--ipc host` or `--shm-size 8g`; in Kubernetes mount an emptyDir with "
            "`medium: Memory` there"
        )
    if num_gpus and container["locked_memory_limit_bytes"] is not None:
        told.append(
            "locked memory is limited, and NCCL and pinned buffers need it: start the container "
            "with `--ulimit memlock=-1`"
        )
    if why_random is not None and container["seccomp"] == "filter":
        told.append(
            "engines of the backend `tensorrt` are not equal to the byte from build to build "
            "under this seccomp profile: start the container with "
            "`--security-opt seccomp=unconfined`, or a profile that allows `personality`"
        )
    return told
