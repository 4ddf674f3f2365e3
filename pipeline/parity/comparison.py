"""Figures that say how far two sets of logits are apart. Imports numpy: import it where it works.

Every figure is taken at each position by itself (the worst counts) and over all logits at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pipeline.artifact import Json
from pipeline.parity.thresholds import Thresholds

Logits = NDArray[np.float32]
"""Of one sequence, `[positions, vocab_size]`: row `i` follows token `i`."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figures:
    """How far two logits are apart: their directions, their lengths, their largest difference.

    `norm_error` is how far the ratio of norms is from 1; `relative_error` is the largest difference
    divided by the largest of the expected logits.
    """

    cosine: float
    norm_error: float
    relative_error: float


@dataclass(frozen=True, slots=True)
class Place:
    """A position of a sequence, both by number."""

    sequence: int
    position: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The worst figures of all positions (each figure's own), those over all logits at once.

    `first`: the first position, in the order of the sequences, that the thresholds do not allow.
    """

    worst: Figures
    overall: Figures
    num_positions: int
    first: Place | None

    @property
    def agrees(self) -> bool:
        """Whether the thresholds hold at every position."""
        return self.first is None

    def record(self) -> dict[str, Json]:
        """For records, JSON. Rounded to the unsafe side, so that it hardly varies by machine."""
        return {
            "positions": self.num_positions,
            "min_cosine": _down(self.worst.cosine),
            "max_norm_error": _up(self.worst.norm_error),
            "max_relative_error": _up(self.worst.relative_error),
            "overall_cosine": _down(self.overall.cosine),
            "overall_norm_error": _up(self.overall.norm_error),
            "overall_relative_error": _up(self.overall.relative_error),
        }


@dataclass(frozen=True, slots=True)
class _Sums:
    """What all figures follow from: arrays of equal lengths, an item for each set of logits."""

    product: Numbers
    ours_squared: Numbers
    theirs_squared: Numbers
    difference: Numbers
    largest: Numbers

    def joined(self) -> _Sums:
        """Of all these logits as one set."""
        added = (self.product, self.ours_squared, self.theirs_squared)
        largest = (self.difference, self.largest)
        return _Sums(
            *(values.sum(keepdims=True) for values in added),
            *(values.max(keepdims=True) for values in largest),
        )

    def cosines(self) -> Numbers:
        """1 also where both are zero, and never above 1 by rounding."""
        norms = np.sqrt(self.ours_squared) * np.sqrt(self.theirs_squared)
        with np.errstate(all="ignore"):
            values = np.minimum(self.product / norms, 1.0)
        return np.where(self._both_are_zero(), 1.0, values)

    def norm_errors(self) -> Numbers:
        """How far the ratio of norms is from 1."""
        with np.errstate(all="ignore"):
            ratios = np.sqrt(self.ours_squared / self.theirs_squared)
        return np.abs(np.where(self._both_are_zero(), 1.0, ratios) - 1.0)

    def relative_errors(self) -> Numbers:
        """The largest difference by the largest expected logit."""
        with np.errstate(all="ignore"):
            ratios = self.difference / self.largest
        return np.where(self.difference == 0, 0.0, ratios)

    def _both_are_zero(self) -> NDArray[np.bool_]:
        zero: NDArray[np.bool_] = (self.ours_squared == 0) & (self.theirs_squared == 0)
        return zero


def compare(found: Sequence[Logits], expected: Sequence[Logits], allowed: Thresholds) -> Comparison:
    """Compare the logits of sequences, of equal shapes pair by pair; at least one position.

    A logit that is not finite makes figures that no threshold allows.
    """
    each = [_sums(ours, theirs) for ours, theirs in zip(found, expected, strict=True)]
    places = [
        Place(number, position)
        for number, sums in enumerate(each)
        for position in range(len(sums.product))
    ]
    all_sums = _Sums(
        *(np.concatenate([getattr(sums, field.name) for sums in each]) for field in fields(_Sums))
    )
    cosines, norm_errors = all_sums.cosines(), all_sums.norm_errors()
    errors, joined = all_sums.relative_errors(), all_sums.joined()
    fine = cosines >= allowed.min_cosine
    fine &= norm_errors <= allowed.max_norm_error
    fine &= errors <= allowed.max_relative_error
    return Comparison(
        # numpy's `min` and `max` are NaN where any value is: it is the worst of all.
        worst=Figures(float(cosines.min()), float(norm_errors.max()), float(errors.max())),
        overall=Figures(
            float(joined.cosines()[0]),
            float(joined.norm_errors()[0]),
            float(joined.relative_errors()[0]),
        ),
        num_positions=len(places),
        first=None if fine.all() else places[int(np.argmin(fine))],
    )


def _sums(found: Logits, expected: Logits) -> _Sums:
    """Of each row of `[positions, vocab_size]`, in float64."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    ours, theirs = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(all="ignore"):
        return _Sums(
            (ours * theirs).sum(-1),
            (ours**2).sum(-1),
            (theirs**2).sum(-1),
            np.abs(ours - theirs).max(-1),
            np.abs(theirs).max(-1),
        )


def _up(value: float) -> float:
    """One significant digit, rounded up."""
    if value == 0 or not math.isfinite(value):
        return value
    exponent = math.floor(math.log10(value))
    digit = math.ceil(value / 10.0**exponent - 1e-9)
    return float(f"{digit}e{exponent}")


def _down(cosine: float) -> float:
    """As many nines as it has, and one digit after them: 1 - cosine is rounded up."""
    return float(f"{1 - _up(max(0.0, 1 - cosine)):.12f}") if math.isfinite(cosine) else cosine
