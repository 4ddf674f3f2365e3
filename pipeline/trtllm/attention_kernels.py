"""For which attention fused kernels are there, as data: kernel source, GPUs, types, head sizes."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.trtllm.rules import Sureness

MMHA_HEAD_SIZES = (32, 48, 64, 80, 96, 104, 112, 128, 144, 160, 192, 224, 256)
"""Head sizes of the generation phase (TensorRT-LLM 1.3.0rc3
`decoderMaskedMultiheadAttention.cu`)."""

FMHA_HEAD_SIZES = (16, 32, 40, 48, 64, 72, 80, 96, 104, 128, 160, 192, 256)
"""Head sizes of the context phase in 16 bits (1.3.0rc3 `cpp/kernels/fmha_v2/setup.py`)."""

SOFTCAP_HEAD_SIZES = (128, 256)
"""Head sizes of kernels with soft-capped scores (same source)."""

FMHA_TARGETS = (80, 86, 89, 90, 100, 103, 120, 121)
"""GPUs that the context kernels can be made for at all (1.3.0rc3 `fmhaRunner.cpp`)."""

FP8_FMHA_TARGETS = (89, 90, 100, 103, 120, 121)
"""GPUs with FP8 context attention (1.3.0rc3 `attentionOp.cpp`)."""

GENERATED = (100, 103)
"""GPUs where TRTLLM-GEN kernels compute context attention (1.3.0rc3 `fmhaDispatcher.cpp`)."""

NOT_GENERATED_HEAD_SIZES = (72, 80)
"""Head sizes for which these GPUs have fmha_v2 kernels instead (same source)."""

GENERATED_HEAD_SIZES = (32, 64, 128, 256, *NOT_GENERATED_HEAD_SIZES)
"""Head sizes that these GPUs may have kernels for: powers of two, and those (same source)."""


@dataclass(frozen=True, slots=True)
class FusedKernels:
    """Context kernels that are known to exist; `fp8` stands for FP8 arithmetic."""

    source: str
    sure: Sureness
    targets: tuple[int, ...]
    arithmetic: tuple[str, ...]
    head_sizes: tuple[int, ...]


FUSED_KERNELS = (
    FusedKernels(
        "TensorRT-LLM `cpp/kernels/fmha_v2/setup.py`",
        "1.3rc3",
        (80, 86, 89, 90, 120, 121),
        ("float16", "bfloat16"),
        FMHA_HEAD_SIZES,
    ),
    FusedKernels(
        "TensorRT-LLM `cpp/kernels/fmha_v2/setup.py`",
        "1.3rc3",
        (89, 90),
        ("fp8",),
        (32, 40, 48, 80, 96, 104, 128, 160, 192, 256),
    ),
    FusedKernels(
        "TensorRT-LLM `cpp/kernels/fmha_v2/setup.py`",
        "1.3rc3",
        (120, 121),
        ("fp8",),
        (32, 40, 48, 80, 96, 104, 128, 160, 192),
    ),
    FusedKernels(
        "TensorRT-LLM `cpp/kernels/fmha_v2/setup.py`",
        "1.3rc3",
        (100,),
        ("float16", "bfloat16"),
        NOT_GENERATED_HEAD_SIZES,
    ),
    FusedKernels(
        "TensorRT-LLM `fmhaDispatcher.cpp`: powers of two; its kernels are not published as source",
        "inferred",
        GENERATED,
        ("float16", "bfloat16", "fp8"),
        (64, 128, 256),
    ),
)
"""What is not here and broken by no rule is unknown: TensorRT-LLM's own log will tell."""


def find_kernels(sm: int, arithmetic: str, head_size: int) -> FusedKernels | None:
    """The kernels that compute such attention on this GPU, if any are known to."""
    return next(
        (
            kernels
            for kernels in FUSED_KERNELS
            if sm in kernels.targets
            and arithmetic in kernels.arithmetic
            and head_size in kernels.head_sizes
        ),
        None,
    )
