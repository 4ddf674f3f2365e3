"""How the worker is started: its launcher, its environment, its command line.

- One rank: plain. `TLLM_WORKER_USE_SINGLE_PROCESS=1` keeps the engine in the worker itself.
- Several ranks: `mpirun -n 1` where there is one, else plain: `LLM` has MPI start a process for
  each rank, and a process that is not under a launcher needs MPI to make one for it.
- Several ranks inside a job of SLURM or MPI: a process of such a job must not start ranks of its
  own, so one `mpirun` starts them all, each as `trtllm-llmapi-launch`, and the worker uses those.

Source: TensorRT-LLM 1.2, llmapi/mpi_session.py, llmapi/trtllm-llmapi-launch. All ranks are on this
machine; MPI and NCCL talk over the loopback interface. The first two ways were executed with Open
MPI 4.1.6 and mpi4py's pool, which `LLM` uses, but without TensorRT-LLM; the third was not.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pipeline
from pipeline.engines.trtllm.arguments import DETERMINISTIC
from pipeline.engines.trtllm.environment import kept_variables, visible_devices
from pipeline.errors import MachineError

OUTER_JOB = ("SLURM_JOB_ID", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMIX_RANK", "PMI_ID")
"""Variables of a process that a launcher of SLURM or MPI has started."""

LOOPBACK = {
    "NCCL_SOCKET_IFNAME": "lo",
    "OMPI_MCA_btl_tcp_if_include": "lo",
    "OMPI_MCA_oob_tcp_if_include": "lo",
    "PRTE_MCA_prte_if_include": "lo",
    "PMIX_MCA_ptl_tcp_if_include": "lo",
}

_MPIRUN = ("--allow-run-as-root", "--oversubscribe")


@dataclass(frozen=True, slots=True)
class Launcher:
    """What comes before the worker's own command line, and what it is for records."""

    name: str
    prefix: tuple[str, ...]


def choose_launcher(
    world_size: int,
    environ: Mapping[str, str] = os.environ,
    which: Callable[[str], str | None] = shutil.which,
) -> Launcher:
    """See the module. Raises MachineError where a launcher is needed that is not there."""
    if world_size == 1:
        return Launcher("plain", ())
    mpirun = which("mpirun")
    if not any(name in environ for name in OUTER_JOB):
        if mpirun is None:
            return Launcher("plain", ())
        return Launcher("mpirun", (mpirun, "-n", "1", *_MPIRUN))
    launch = which("trtllm-llmapi-launch")
    absent = {"mpirun": mpirun, "trtllm-llmapi-launch": launch}
    if mpirun is None or launch is None:
        names = " and ".join(f"`{name}`" for name, path in absent.items() if path is None)
        raise MachineError(
            f"{names} not found, which an engine with {world_size} ranks needs inside a job of "
            "SLURM or MPI",
            hint="run in NVIDIA's container, or outside of `srun` and `mpirun`",
        )
    return Launcher("trtllm-llmapi-launch", (mpirun, "-n", str(world_size), *_MPIRUN, launch))


def worker_environment(world_size: int, devices: Sequence[str]) -> dict[str, str]:
    """The same for every run on a machine: what TensorRT-LLM's programs need of ours, and no more.

    `devices` are the GPUs of the ranks, in order (`Gpu.device`). Modules are found where this
    process finds them. TensorRT-LLM loads nothing from a hub; root may start MPI in a container.
    """
    kept = kept_variables(os.environ)
    path = [str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]
    folders = [Path(pipeline.__file__).parent.parent, *(Path(entry) for entry in sys.path)]
    modules = dict.fromkeys(str(folder.absolute()) for folder in folders if folder.is_dir())
    found = {
        **kept,
        **DETERMINISTIC,
        **LOOPBACK,
        **visible_devices(devices),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "HF_HUB_OFFLINE": "1",
        "LC_ALL": "C.UTF-8",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PATH": os.pathsep.join(path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(modules),
        "PYTHONUNBUFFERED": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
    if world_size == 1:
        # The kernels of a rank in this process are seen by its profiler.
        found["TLLM_WORKER_USE_SINGLE_PROCESS"] = "1"
    return found


def worker_command(launcher: Launcher, job: Path) -> list[str]:
    """The worker's argv, launcher included."""
    python = [sys.executable, "-P", "-s", "-m", "pipeline.engines.trtllm.worker", str(job)]
    return [*launcher.prefix, *python]
