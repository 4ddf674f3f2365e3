"""Names of CUDA kernels and what they say about attention: one row per pattern, with its source.

A name says which code ran, so a trace of one context pass and some generation steps is the only
answer to whether attention was fused that rests on an execution. The rows cover TensorRT-LLM 1.2,
TensorRT for RTX, and the ONNX Runtime CUDA provider, which runs the same decoder graph.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pipeline.artifact import Json

Kind = Literal["fused", "unfused", "preparation"]
"""What a kernel is: attention in one kernel, a part of attention in several, or neither."""

Phase = Literal["context", "generation"]
"""A pass over the prompt, or a step of one token."""

Sure = Literal["read", "seen", "reported"]
"""Read in the source, seen by us in a trace, or told by others."""

SHOWN_NAMES = 40
"""Names of unknown kernels that an answer lists, most; what attention is, is among the first."""

_FMHA = "TensorRT-LLM, 1.2, cpp/kernels/fmha_v2/setup.py (encode_name)"
_GEN = "TensorRT-LLM, 1.2, pull request 8086: the table of TRTLLM-GEN kernels"
_XQA = "TensorRT-LLM, 1.2, kernels/decoderMaskedMultiheadAttention/cubin/xqa_kernel_cubin.h"
_MMHA = "TensorRT-LLM, 1.2, decoderMaskedMultiheadAttentionTemplate.h"
_UNFUSED = "TensorRT-LLM, 1.x, kernels/unfusedAttentionKernels.cu; common/attentionOp.cpp"
_ORT = "ONNX Runtime, 1.31, CUDA provider on an H100 and an H200, by CUPTI; PyTorch, 2.11"


@dataclass(frozen=True, slots=True)
class KernelRow:
    """A pattern of names, searched in a demangled name. `phases`: where it says anything."""

    pattern: str
    kind: Kind
    phases: tuple[Phase, ...]
    means: str
    source: str
    sure: Sure


_RTX = "TensorRT for RTX, 1.7.1, the list of kernels in its engines (tensorrt_listing.py)"

_BOTH: tuple[Phase, ...] = ("context", "generation")

ROWS = (
    KernelRow(
        r"fmha_v\d+(_il)?_flash_attention_",
        *("fused", ("context",), "flash attention; `_tma_ws_`: warp-specialised for Hopper"),
        *(_FMHA, "read"),
    ),
    KernelRow(
        r"fmha_v\d+(_il)?_[a-z0-9_]*?_\d+_\d+\w*_sm\d+_kernel",
        *("fused", ("context",), "fused attention for short sequences"),
        *(_FMHA, "read"),
    ),
    KernelRow(
        r"fmha_mhca_\w+_sm\d+_kernel",
        *("fused", ("context",), "fused cross attention"),
        *(_FMHA, "read"),
    ),
    KernelRow(
        r"fmhaSm\d+[a-z]?Kernel_\w*Context",
        *("fused", ("context",), "attention of TRTLLM-GEN, for Blackwell"),
        *(_GEN, "read"),
    ),
    KernelRow(
        r"fmhaSm\d+[a-z]?Kernel_\w*ForGen",
        *("fused", ("generation",), "attention of TRTLLM-GEN, for Blackwell"),
        *(_GEN, "read"),
    ),
    KernelRow(
        r"\bxqa_kernel_dt_|\bkernel_mha\b",
        *("fused", ("generation",), "XQA: one kernel for all query heads of a K/V head"),
        *(_XQA, "read"),
    ),
    KernelRow(
        r"\bmasked_multihead_attention_kernel\b",
        *("fused", ("generation",), "masked multi-head attention, where XQA is not used"),
        *(_MMHA, "read"),
    ),
    KernelRow(
        r"\bsoftmax_kernel(_h2(_v2)?)?\b",
        *("unfused", ("context",), "softmax between two batched matrix products"),
        *(_UNFUSED, "read"),
    ),
    KernelRow(
        r"\badd_fusedQKV_bias_transpose_kernel\b",
        *("unfused", ("context",), "queries, keys and values in buffers of their own"),
        *(_UNFUSED, "read"),
    ),
    KernelRow(
        r"\baddRelativeAttentionBiasUnaligned\b",
        *("unfused", ("context",), "scores of attention, stored and changed"),
        *(_UNFUSED, "read"),
    ),
    KernelRow(
        r"\btranspose_remove_padding\b",
        *("unfused", ("context",), "heads put in order after a batched matrix product"),
        *(_UNFUSED, "read"),
    ),
    KernelRow(
        r"\bapplyBiasRopeUpdateKVCache",
        *("preparation", _BOTH, "bias, rotary positions and KV cache, before fused attention"),
        *("TensorRT-LLM, 1.x, unfusedAttentionKernels_2_template.h", "read"),
    ),
    KernelRow(
        r"\bflash_fwd(_splitkv)?(_combine)?_kernel\b",
        *("fused", _BOTH, "flash attention 2"),
        *(_ORT, "seen"),
    ),
    KernelRow(
        r"\battention_kernel_batched_impl(_right_padding)?<.*AttentionKernel<|\bfmha_cutlassF_",
        *("fused", _BOTH, "memory-efficient attention of CUTLASS"),
        *(_ORT, "seen"),
    ),
    KernelRow(
        r"cudnn_generated_.*sdpa.*flash_fprop",
        *("fused", _BOTH, "flash attention of cuDNN"),
        *(_ORT, "seen"),
    ),
    KernelRow(
        r"\b_gem[mv]_mha_v\d",
        *("fused", _BOTH, "fused attention of TensorRT; `gemv`: of one token"),
        *(_RTX, "seen"),
    ),
    KernelRow(
        r"\bsoftmax_warp_forward\b",
        *("unfused", _BOTH, "softmax as a kernel of its own"),
        *("PyTorch, 2.11, on an H100: torch.profiler, attention by its math backend", "seen"),
    ),
    KernelRow(
        r"\bonnxruntime::.*[Ss]oftmax|\bsoftmax_block_forward\b|\bcunn_SoftMaxForward",
        *("unfused", _BOTH, "softmax as a kernel of its own"),
        *(_ORT, "seen"),
    ),
)
"""In order: the first row that matches a name decides."""

_WORST_FIRST = ("unfused", "unknown", "fused")


def classify(context: Iterable[str], generation: Iterable[str]) -> dict[str, Json]:
    """What was observed, from the kernels of a context pass and of generation steps.

    `status` is `unfused` if a part of unfused attention ran in either phase, `fused` if each phase
    ran a fused kernel, and else `unknown`: the phase without a known kernel lists its names. Where
    the two passes could not be told apart, both arguments may be all names: rows that speak about
    one phase only are still right.
    """
    phases = {"context": _classify("context", context)}
    phases["generation"] = _classify("generation", generation)
    statuses = {phase["status"] for phase in phases.values()}
    worst = next(status for status in _WORST_FIRST if status in statuses)
    return {"status": worst, "level": "kernel", **phases}


def _classify(phase: Phase, names: Iterable[str]) -> dict[str, Json]:
    """One phase: its status and the names that it rests on."""
    distinct = sorted(set(names))
    found: dict[Kind, list[str]] = {"fused": [], "unfused": [], "preparation": []}
    for name in distinct:
        row = find_row(name)
        if row is not None and phase in row.phases:
            found[row.kind].append(name)
    if found["unfused"]:
        return {"status": "unfused", "kernels": found["unfused"], "beside": found["fused"]}
    if found["fused"]:
        return {"status": "fused", "kernels": found["fused"]}
    unknown = [name for name in distinct if name not in found["preparation"]]
    return {"status": "unknown", "kernels": unknown[:SHOWN_NAMES], "num_kernels": len(unknown)}


def find_row(name: str) -> KernelRow | None:
    """The row of a kernel's name, or None for kernels that are no attention."""
    return next((row for row in ROWS if re.search(row.pattern, name)), None)
