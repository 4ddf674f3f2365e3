"""Rotary positions as data, and which of its tables a sequence reads. Pure: the plan uses it.

Sources: transformers 5.24, `modeling_rope_utils.py`, `models/phi3/modeling_phi3.py`,
`models/phimoe/modeling_phimoe.py`; TensorRT-LLM 1.x, `layers/attention.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.artifact import Json

LONG_ROPE = "longrope"
"""Two sets of frequencies, for short sequences and for long ones; `su` is its older name."""

ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn", LONG_ROPE)


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary positions of an attention, as its config.json has them.

    `dim`: how many of a head's dims are rotated, the first ones; even. `interleaved`: dims `2i` and
    `2i + 1` are a pair, as in GPT-J, instead of `i` and `i + dim / 2`. `scaling`: Hugging Face's
    `rope_scaling`, in the new (`rope_type`) or old (`type`) spelling. The last five are of
    `longrope`, as TensorRT-LLM's Phi-3 classes have them; it may also stand in `scaling`. The
    factors are `[dim / 2]`, and divide frequencies; an mscale multiplies cos and sin.
    """

    dim: int
    base: float
    interleaved: bool
    max_position_embeddings: int
    scaling: Mapping[str, Json] | None
    long_factors: tuple[float, ...] | None = None
    short_factors: tuple[float, ...] | None = None
    original_max_position_embeddings: int | None = None
    short_mscale: float | None = None
    long_mscale: float | None = None


def rope_type(rotary: Rotary) -> str:
    """The kind of scaling, one of ROPE_TYPES where it is known."""
    if rotary.long_factors is not None or rotary.short_factors is not None:
        return LONG_ROPE
    scaling = rotary.scaling or {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    return LONG_ROPE if kind == "su" else str(kind)


def original_length(rotary: Rotary) -> int | None:
    """Up to how many tokens a sequence of `longrope` or `yarn` is as in training."""
    length: int | None = rotary.original_max_position_embeddings
    return length or (rotary.scaling or {}).get("original_max_position_embeddings")


def uses_two_tables(rotary: Rotary, max_seq_len: int) -> bool:
    """Whether the tables hold every position twice: for short sequences, then for long ones.

    A long sequence reads row `max_seq_len + position`.
    """
    return needs_long(rotary, max_seq_len)


def needs_long(rotary: Rotary, num_tokens: int) -> bool:
    """Whether a sequence of `num_tokens` is read with the long factors, from its first token on."""
    if rope_type(rotary) != LONG_ROPE:
        return False
    length = original_length(rotary)
    return length is not None and num_tokens > length
