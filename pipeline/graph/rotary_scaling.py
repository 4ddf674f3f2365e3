"""Frequencies of rotary positions under each scaling, with the fp32 roundings of transformers.

`2 pi / x` is worked out there as the rounded `1 / x`, times `2 pi`: so it is here. d = rotated dims
of a head. Source: transformers 5.24, `modeling_rope_utils.py`. What is read here was checked by
`rotary_problems`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.artifact import Json
from pipeline.graph.rotary_description import Rotary, original_length, rope_type

Floats = NDArray[np.float32]
Scaling = Mapping[str, Json]

_ONE = np.float32(1)


def scaled_frequencies(rotary: Rotary) -> tuple[Floats, float]:
    """Angle per position, float32 `[d / 2]`, and the factor of cos and sin; not for longrope.

    Dynamic NTK is taken within the trained length, where it changes nothing.
    """
    scaling = rotary.scaling or {}
    wavelengths = _wavelengths(rotary)
    match rope_type(rotary):
        case "default" | "dynamic":
            return _ONE / wavelengths, 1.0
        case "linear":
            return _ONE / wavelengths / np.float32(scaling["factor"]), 1.0
        case "llama3":
            return _llama3(scaling, _ONE / wavelengths), 1.0
        case "yarn":
            return _yarn(rotary, scaling, wavelengths)
        case unknown:
            raise AssertionError(unknown)


def long_rope(rotary: Rotary, *, is_long: bool) -> tuple[Floats, float]:
    """Angle per position, float32 `[d / 2]`, and the factor of cos and sin, of longrope.

    A factor for either length is taken where it is given (Phi-3-small, Phi-3.5-MoE); else one for
    both follows from how far the trained length was extended (Phi-3, Phi-4-mini).
    """
    scaling = rotary.scaling or {}
    name = "long" if is_long else "short"
    factors = rotary.long_factors if is_long else rotary.short_factors
    stretch = np.array(factors or scaling[f"{name}_factor"], dtype=np.float32)
    mscale = rotary.long_mscale if is_long else rotary.short_mscale
    if mscale is None:
        mscale = scaling.get(f"{name}_mscale")
    inv_freq: Floats = _ONE / (stretch * _wavelengths(rotary))
    return inv_freq, _long_rope_factor(rotary, scaling) if mscale is None else float(mscale)


def _long_rope_factor(rotary: Rotary, scaling: Scaling) -> float:
    given = scaling.get("attention_factor")
    if given is not None:
        return float(given)
    trained = original_length(rotary)
    assert trained is not None
    factor = scaling.get("factor") or rotary.max_position_embeddings / trained
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(trained))


def _wavelengths(rotary: Rotary) -> Floats:
    """`base ^ (2i / d)`, `[d / 2]`: positions per radian, rounded as by torch."""
    exponents = np.arange(0, rotary.dim, 2, dtype=np.float32) / np.float32(rotary.dim)
    base = np.float64(np.float32(rotary.base))
    return np.power(base, exponents.astype(np.float64)).astype(np.float32)


def _llama3(scaling: Scaling, inv_freq: Floats) -> Floats:
    """Long wavelengths are stretched by `factor`, short ones kept, those between blended."""
    factor, low, high = (
        scaling[name] for name in ("factor", "low_freq_factor", "high_freq_factor")
    )
    trained = scaling["original_max_position_embeddings"]
    wavelen = _ONE / inv_freq * np.float32(2 * math.pi)
    longest, shortest = np.float32(trained / low), np.float32(trained / high)
    stretched = np.where(wavelen > longest, inv_freq / np.float32(factor), inv_freq)
    turns = _ONE / wavelen * np.float32(trained)
    smooth = (turns - np.float32(low)) / np.float32(high - low)
    blended = (_ONE - smooth) * stretched / np.float32(factor) + smooth * stretched
    between = (wavelen >= shortest) & (wavelen <= longest)
    return np.where(between, blended, stretched)


def _yarn(rotary: Rotary, scaling: Scaling, wavelengths: Floats) -> tuple[Floats, float]:
    """Interpolated and extrapolated frequencies, joined by a ramp; cos and sin are scaled too."""
    trained = original_length(rotary)
    assert trained is not None
    factor = scaling.get("factor") or rotary.max_position_embeddings / trained
    low = _correction_dim(rotary, trained, scaling.get("beta_fast") or 32)
    high = _correction_dim(rotary, trained, scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary.dim - 1)
    if low == high:
        high += 0.001
    steps = np.arange(rotary.dim // 2, dtype=np.float32)
    kept = _ONE - np.clip((steps - np.float32(low)) / np.float32(high - low), 0, 1)
    extrapolated = _ONE / wavelengths
    interpolated = _ONE / (np.float32(factor) * wavelengths)
    inv_freq: Floats = interpolated * (_ONE - kept) + extrapolated * kept
    return inv_freq, _yarn_factor(scaling, factor)


def _correction_dim(rotary: Rotary, trained: int, num_rotations: float) -> float:
    """The dim whose wavelength fits `num_rotations` times into the trained length."""
    wavelengths = math.log(trained / (num_rotations * 2 * math.pi))
    return rotary.dim * wavelengths / (2 * math.log(rotary.base))


def _yarn_factor(scaling: Scaling, factor: float) -> float:
    """By what cos and sin are multiplied, which scales the attention logits by its square."""

    def magnitude(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    given = scaling.get("attention_factor")
    if given is not None:
        return float(given)
    weight, weight_all = scaling.get("mscale"), scaling.get("mscale_all_dim")
    return magnitude(weight) / magnitude(weight_all) if weight and weight_all else magnitude(1.0)
