"""ALiBi: the slope of every head, and biases that were rounded as they were made.

Read: TensorRT-LLM 1.x `functional.py` (`generate_alibi_slopes`); transformers 5.24
`modeling_bloom.py`, `modeling_falcon.py`, `modeling_mpt.py` (`build_alibi_tensor` of each).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.graph.builder import numpy_dtype
from pipeline.graph.description import Alibi


def alibi_slopes(alibi: Alibi, heads: int) -> list[float]:
    """The slope of every head, `factor` included."""
    below = 2 ** math.floor(math.log2(heads))

    def powers(count: int) -> list[float]:
        return [2.0 ** (-alibi.max_bias * (i + 1) / count) for i in range(count)]

    slopes = powers(below) + powers(2 * below)[::2][: heads - below]
    return [slope * alibi.factor for slope in slopes]


def rounded_biases(alibi: Alibi, heads: int, positions: int) -> np.ndarray[Any, Any]:
    """The biases of keys by their position where `alibi.in_bfloat16`: float64 `[heads, positions]`.

    They grow with the position instead of falling with the distance: for one query that differs by
    a constant, which softmax does not see.
    """
    narrow = numpy_dtype("bfloat16")
    slopes = np.array(alibi_slopes(replace(alibi, factor=1.0), heads)).astype(narrow)
    places = np.arange(positions).astype(narrow)
    # Eight bits times eight bits are exact in float32, so that the product is rounded once.
    products = slopes.astype(np.float32)[:, None] * places.astype(np.float32)
    return products.astype(narrow).astype(np.float64) * alibi.factor
