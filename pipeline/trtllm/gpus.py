"""GPUs that people have: the name that `nvidia-smi` prints, the target, and the memory.

Memory is `memory.total` of `nvidia-smi`, in MiB, with ECC as the card is delivered. `reported`:
seen in outputs of `nvidia-smi` that users published; `inferred`: from the size that the card is
sold with, less what `nvidia-smi` shows too little on cards like it. Where a card is known by two
numbers (an older driver, ECC off), the smaller is kept, so that what fits by it does fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.trtllm.rules import Sureness

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class KnownGpu:
    """A GPU by its name. `short_names`: how people call it. `is_shared`: memory is the host's."""

    name: str
    target: str
    memory_mib: int
    short_names: tuple[str, ...] = ()
    sure: Sureness = "reported"
    is_shared: bool = False

    @property
    def memory_bytes(self) -> int:
        """All of its memory, in bytes."""
        return self.memory_mib * MIB


KNOWN_GPUS = (
    KnownGpu("Tesla T4", "sm75", 15360, ("T4",)),
    KnownGpu("NVIDIA GeForce RTX 2080 Ti", "sm75", 11264, ("RTX 2080 Ti", "2080 Ti")),
    KnownGpu("NVIDIA A30", "sm80", 24576, ("A30",)),
    KnownGpu("NVIDIA A100-PCIE-40GB", "sm80", 40960, ("A100 40 PCIe",)),
    KnownGpu("NVIDIA A100-SXM4-40GB", "sm80", 40960, ("A100 40",)),
    KnownGpu("NVIDIA A100 80GB PCIe", "sm80", 81920, ("A100 80 PCIe",)),
    KnownGpu("NVIDIA A100-SXM4-80GB", "sm80", 81920, ("A100 80", "A100")),
    KnownGpu("NVIDIA RTX A4000", "sm86", 16376, ("RTX A4000", "A4000")),
    KnownGpu("NVIDIA A10", "sm86", 23028, ("A10",)),
    KnownGpu("NVIDIA A10G", "sm86", 23028, ("A10G",)),
    KnownGpu("NVIDIA GeForce RTX 3090", "sm86", 24576, ("RTX 3090", "3090")),
    KnownGpu("NVIDIA RTX A5000", "sm86", 24564, ("RTX A5000", "A5000")),
    KnownGpu("NVIDIA A40", "sm86", 46068, ("A40",)),
    KnownGpu("NVIDIA RTX A6000", "sm86", 49140, ("RTX A6000", "A6000")),
    KnownGpu("NVIDIA GeForce RTX 4080", "sm89", 16376, ("RTX 4080", "4080")),
    KnownGpu("NVIDIA L4", "sm89", 23034, ("L4",)),
    KnownGpu("NVIDIA GeForce RTX 4090", "sm89", 24564, ("RTX 4090", "4090")),
    KnownGpu("NVIDIA L20", "sm89", 46068, ("L20",)),
    KnownGpu("NVIDIA L40", "sm89", 46068, ("L40",)),
    KnownGpu("NVIDIA L40S", "sm89", 46068, ("L40S",)),
    KnownGpu("NVIDIA RTX 6000 Ada Generation", "sm89", 49140, ("RTX 6000 Ada",)),
    KnownGpu("NVIDIA H100 PCIe", "sm90", 81559, ("H100 PCIe",)),
    KnownGpu("NVIDIA H100 80GB HBM3", "sm90", 81559, ("H100 SXM", "H100")),
    KnownGpu("NVIDIA H100 NVL", "sm90", 95830, ("H100 NVL",)),
    KnownGpu("NVIDIA H20", "sm90", 97871, ("H20",)),
    KnownGpu("NVIDIA GH200 480GB", "sm90", 97871, ("GH200 96", "GH200")),
    KnownGpu("NVIDIA H200", "sm90", 143771, ("H200",)),
    KnownGpu("NVIDIA H200 NVL", "sm90", 143771, ("H200 NVL",)),
    KnownGpu("NVIDIA GH200 144G HBM3e", "sm90", 146831, ("GH200 144",)),
    KnownGpu("NVIDIA B200", "sm100", 183359, ("B200",)),
    KnownGpu("NVIDIA GB200", "sm100", 189471, ("GB200",)),
    KnownGpu("NVIDIA B300 SXM6 AC", "sm103", 275040, ("B300",)),
    KnownGpu("NVIDIA GB300", "sm103", 284208, ("GB300",)),
    KnownGpu("NVIDIA GeForce RTX 5080", "sm120", 16303, ("RTX 5080", "5080")),
    KnownGpu("NVIDIA GeForce RTX 5090", "sm120", 32607, ("RTX 5090", "5090")),
    KnownGpu("NVIDIA RTX PRO 5000 Blackwell", "sm120", 48935, ("RTX PRO 5000",), sure="inferred"),
    KnownGpu(
        "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
        "sm120",
        97887,
        ("RTX PRO 6000 Max-Q",),
    ),
    KnownGpu(
        "NVIDIA RTX PRO 6000 Blackwell Server Edition", "sm120", 97887, ("RTX PRO 6000 Server",)
    ),
    KnownGpu(
        "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "sm120", 97887, ("RTX PRO 6000",)
    ),
    # `nvidia-smi` prints no memory for it; this is `MemTotal` of its host, which it shares.
    KnownGpu("NVIDIA GB10", "sm121", 124610, ("DGX Spark", "GB10"), is_shared=True),
)
"""By target, then by memory. Sources: outputs of `nvidia-smi` in public repositories, 2023-2026."""


def gpus_of(target: str) -> tuple[KnownGpu, ...]:
    """The known GPUs of a target such as `sm90`, by memory; none for an unknown target."""
    return tuple(gpu for gpu in KNOWN_GPUS if gpu.target == target)


def largest_of(target: str) -> KnownGpu | None:
    """The known GPU of a target with the most memory, or None."""
    return max(gpus_of(target), key=lambda gpu: gpu.memory_mib, default=None)


def by_targets(targets: Sequence[str]) -> tuple[KnownGpu, ...]:
    """All known GPUs: those of the given targets first, in their order."""
    first = [gpu for target in targets for gpu in gpus_of(target)]
    return (*first, *(gpu for gpu in KNOWN_GPUS if gpu.target not in targets))


def find_gpu(name: str) -> KnownGpu | None:
    """The GPU that a name or a short name means, in any case of its letters, or None."""
    wanted = name.casefold()
    for gpu in KNOWN_GPUS:
        if wanted in {known.casefold() for known in (gpu.name, *gpu.short_names)}:
            return gpu
    return None
