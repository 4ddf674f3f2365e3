"""How far logits may differ: what the recipe says, and what follows from the weights' types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.artifact import Json
from pipeline.recipe.verify_section import Verify


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What must hold at every position."""

    min_cosine: float
    max_norm_error: float
    max_relative_error: float


EXACT = Thresholds(min_cosine=0.999999, max_norm_error=1e-4, max_relative_error=1e-4)
"""Both compute with the same weights in float32, so only the order of sums is different."""

ROUNDED: Mapping[str, Thresholds] = {
    "float16": Thresholds(min_cosine=0.9999, max_norm_error=5e-3, max_relative_error=2e-2),
    "bfloat16": Thresholds(min_cosine=0.995, max_norm_error=5e-2, max_relative_error=0.15),
}
"""By the type of the checkpoint, where conversion rounded weights to it: each value by up to 2^-11
or 2^-8 of itself, which adds up through the layers. (Measured on random models of two to four
layers with narrow vocabularies, which is hard on them: cosine down to 0.9988, norms off by up to
0.012 and a relative error of up to 0.057 in bfloat16.)"""

NEAR_ZERO = 2.0**-25
"""Half of the smallest number of float16: the most that it loses of a value near zero."""


def has_rounded(structure: Mapping[str, Json], dtype: str) -> bool:
    """Whether conversion to `dtype` lost anything of a weight, by the record of the round trip.

    What was computed from the source (a norm's offset that was added, say) is rounded too. Of
    bfloat16, float16 can only lose values near zero, by too little to be seen in any logit.
    """
    if dtype == "float32":
        return False
    error = structure["largest_absolute_error"]
    return bool(structure["changed_tensors"]) or (error or {"value": 0})["value"] > NEAR_ZERO


def choose(settings: Verify, structure: Mapping[str, Json], dtype: str) -> Thresholds:
    """The recipe's thresholds, and the defaults where it has none."""
    default = ROUNDED[dtype] if has_rounded(structure, dtype) else EXACT
    return Thresholds(
        settings.min_cosine or default.min_cosine,
        settings.max_norm_error or default.max_norm_error,
        settings.max_relative_error or default.max_relative_error,
    )
