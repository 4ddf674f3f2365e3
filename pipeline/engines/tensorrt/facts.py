"""What TensorRT compiles, found by builds: facts as data, each with its source and sureness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sure = Literal["built", "read"]
"""Built by us on every target that is named, or read in NVIDIA's documentation."""

SOURCE = "measured with TensorRT for RTX 1.7.1"

RTX_TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""`ComputeCapability` of TensorRT for RTX 1.7.1."""

DTYPE_TARGETS = {
    "float16": RTX_TARGETS,
    "bfloat16": RTX_TARGETS[1:],  # the builder: "sm75 ... HW-specific datatypes: b16"
    "float32": RTX_TARGETS,
}
"""dtype -> targets that a network can be compiled for at all, attention aside."""


@dataclass(frozen=True, slots=True)
class FusedKernels:
    """For which attention a kind of fused kernel exists; the same on every target of its dtype.

    Each bound was found by builds on both sides of it: 6 targets, both dtypes, head sizes 8 to 280
    and 512, 1 to 128 heads (query and key/value), up to 1,048,576 cache slots; bool and float
    masks, one for all heads or one for each, given or worked out in the graph.
    """

    dtypes: tuple[str, ...]
    head_sizes: range
    min_heads: int
    max_slots_and_head: int | None
    """Cache slots (`max_seq_len`) plus head size."""


ANY_LENGTH = FusedKernels(("float16", "bfloat16"), range(16, 257, 8), 2, None)
"""Steps of a dynamic number of tokens."""

ONE_TOKEN = FusedKernels(("float16", "bfloat16"), range(16, 257, 8), 4, 24576)
"""Steps that are known to be of one token. 24576 float16 values are 48 kB of shared memory."""


ALONE_FAILS_FOR = range(2, 65)
"""Most tokens of a step for which a batch of exactly one fails to compile, where the mask of all
attention layers is an input: Myelin, "Graph contains more than one op named mask.1_iota"."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What happens to a part of a decoder; `words` are those of the parser or the builder."""

    what: str
    fused: bool | None
    """Whether attention stays fused beside it; None: it has nothing to do with attention."""
    way: str
    source: str
    sure: Sure
    words: str = ""


_RTX = "TensorRT for RTX 1.7.1, builds for sm80, sm86, sm89 and sm120 in fp16 and bf16"


def _built(what: str, fused: bool | None, way: str, words: str = "") -> Fact:
    return Fact(what, fused, way, _RTX, "built", words)


FACTS = {
    "alibi": _built(
        "ALiBi", True, "a float mask `[batch, heads, seq, slots]` in the dtype of the queries"
    ),
    "window": _built(
        "a sliding window",
        True,
        "a bool mask, worked out in the graph and joined with the given one",
    ),
    "value_size": _built(
        "values of another head size than keys",
        True,
        "values are padded to the size of the keys, and the result is cut",
        "Key and Value must have the same shape",
    ),
    "softcap": _built(
        "soft-capped attention",
        False,
        "plain operators: neither the ONNX parser nor the network API takes a cap",
        "Setting softcap is not supported in TensorRT Attention",
    ),
    "experts": Fact(
        "a mixture of experts",
        True,
        "plain operators, every expert for every token, as `IMoELayer` is for sm100, sm103 and "
        "sm110 alone",
        f"{_RTX}; TensorRT documentation, 11.1, MoE (Mixture of Experts)",
        "built",
        "moe_fc1",
    ),
    "refit": _built(
        "engines whose weights can be put in later",
        None,
        "compiled only where a CUDA driver is, whatever the network",
        "graph_jit.cpp: CHECK(status == CUDA_SUCCESS) failed",
    ),
    "version_compatible": Fact(
        "engines of TensorRT for RTX",
        None,
        "are not compatible between its releases",
        "TensorRT-RTX documentation, Engine Compatibility",
        "read",
    ),
}
