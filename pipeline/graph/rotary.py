"""Cos and sin tables of rotary positions, with every scaling of the families.

The formulas and their fp32 roundings are those of transformers 5.24 (`modeling_rope_utils.py`), so
that positions agree to the last bit or so; powers, cos and sin are taken in float64 and rounded, so
that the tables are the same bytes on every processor. d = rotated dims of a head.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecipeError
from pipeline.graph.rotary_description import LONG_ROPE, Rotary, rope_type, uses_two_tables
from pipeline.graph.rotary_problems import rotary_problems
from pipeline.graph.rotary_scaling import long_rope, scaled_frequencies

Floats = NDArray[np.float32]


def rotary_tables(rotary: Rotary, max_seq_len: int) -> tuple[Floats, Floats]:
    """Cos and sin of every position: two float32 arrays `[rows, d / 2]`.

    There are `max_seq_len` rows, or twice as many where `uses_two_tables` says so: those of short
    sequences, then those of long ones. Raises RecipeError where `rotary_problems` has any.
    """
    problems = rotary_problems(rotary, max_seq_len)
    if problems:
        first, *others = problems
        facts = (*first.facts, *(problem.message for problem in others))
        raise RecipeError(first.message, hint=first.hint, facts=facts)
    if rope_type(rotary) != LONG_ROPE:
        return _table(*scaled_frequencies(rotary), max_seq_len)
    short = _table(*long_rope(rotary, is_long=False), max_seq_len)
    if not uses_two_tables(rotary, max_seq_len):
        return short
    long = _table(*long_rope(rotary, is_long=True), max_seq_len)
    return np.concatenate([short[0], long[0]]), np.concatenate([short[1], long[1]])


def _table(inv_freq: Floats, factor: float, num_positions: int) -> tuple[Floats, Floats]:
    """Cos and sin `[num_positions, d / 2]` from angles per position `[d / 2]`, times `factor`."""
    positions = np.arange(num_positions, dtype=np.float32)
    angles = (positions[:, None] * inv_freq[None, :]).astype(np.float64)
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    return cos * np.float32(factor), sin * np.float32(factor)
