"""The environment of TensorRT-LLM's programs: what they need of ours, and no secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

KEPT = (
    "CUDA_HOME",
    "CUDA_PATH",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LIBRARY_PATH",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_VISIBLE_DEVICES",
    "OMPI_ALLOW_RUN_AS_ROOT",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
    "OPAL_PREFIX",
    "PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
)
"""By name: where programs, libraries and GPUs are. Tokens, proxies and the like are not needed:
a build reads no network."""

KEPT_PREFIXES = ("OMPI_MCA_",)
"""How Open MPI is set up. `OMPI_COMM_WORLD_*`, `PMIX_*` and `SLURM_*` are left out on purpose: by
them the builder would take itself for a rank of our own launcher's job, and build only its part."""


def builder_environment(devices: Sequence[str]) -> dict[str, str]:
    """For a build on these GPUs (`Gpu.device`), in this order.

    HOME and TMPDIR are a scratch folder of the supervisor's.
    """
    return {
        **kept_variables(os.environ),
        **visible_devices(devices),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "LC_ALL": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        # For the C++ part, whose fallback warnings must be seen; it wins over `--log_level`.
        "TLLM_LOG_LEVEL": "info",
    }


def visible_devices(devices: Sequence[str] = ()) -> dict[str, str]:
    """CUDA_VISIBLE_DEVICES of these GPUs (`Gpu.device`), or ours where none are named."""
    if devices:
        return {"CUDA_VISIBLE_DEVICES": ",".join(devices)}
    ours = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {} if ours is None else {"CUDA_VISIBLE_DEVICES": ours}


def kept_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Those of an environment that a TensorRT-LLM program gets."""
    return {
        name: value
        for name, value in environment.items()
        if name in KEPT or name.startswith(KEPT_PREFIXES)
    }
