"""Cos and sin tables of rotary positions, with every scaling of the Llama family.

The formulas and their fp32 roundings are those of transformers 5 (`modeling_rope_utils.py`), so
that positions agree to the last bit or so; cos and sin are taken in float64 and rounded, so that
the tables are the same bytes on every processor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.artifact import Json
from pipeline.errors import RecipeError
from pipeline.graph.config import DecoderConfig, rope_type

Floats = NDArray[np.float32]
Scaling = Mapping[str, Json]


def rotary_tables(config: DecoderConfig, max_seq_len: int) -> tuple[Floats, Floats]:
    """Cos and sin of every position: two float32 arrays `[max_seq_len, head_size / 2]`.

    Raises RecipeError where the scaling depends on the current length within `max_seq_len`, or
    where `rotary_scaling` lacks a key.
    """
    try:
        inv_freq, factor = _frequencies(config, config.rotary_scaling or {}, max_seq_len)
    except KeyError as error:
        raise RecipeError(f"`rotary_scaling` has no `{error.args[0]}`") from None
    positions = np.arange(max_seq_len, dtype=np.float32)
    angles = (positions[:, None] * inv_freq[None, :]).astype(np.float64)  # [max_seq_len, d / 2]
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    return cos * np.float32(factor), sin * np.float32(factor)


def _frequencies(config: DecoderConfig, scaling: Scaling, max_seq_len: int) -> tuple[Floats, float]:
    """Angle per position `[head_size / 2]`, and the factor of cos and sin."""
    wavelengths = _wavelengths(config)
    match rope_type(scaling):
        case "default":
            return np.float32(1.0) / wavelengths, 1.0
        case "linear":
            return np.float32(1.0) / wavelengths / np.float32(scaling["factor"]), 1.0
        case "dynamic":
            _refuse_growth(config, scaling, max_seq_len)
            return np.float32(1.0) / wavelengths, 1.0
        case "llama3":
            return _llama3(scaling, np.float32(1.0) / wavelengths), 1.0
        case "yarn":
            return _yarn(config, scaling, wavelengths)
        case unknown:
            raise AssertionError(unknown)  # `read_config` lets no other pass


def _wavelengths(config: DecoderConfig) -> Floats:
    """`base ^ (2i / head_size)`, `[head_size / 2]`: positions per radian, rounded as by torch."""
    exponents = np.arange(0, config.head_size, 2, dtype=np.float32) / np.float32(config.head_size)
    return np.power(config.rotary_base, exponents.astype(np.float64)).astype(np.float32)


def _refuse_growth(config: DecoderConfig, scaling: Scaling, max_seq_len: int) -> None:
    """Dynamic NTK is plain rotary up to the trained length; beyond it no table can say it.

    transformers then lets the base follow the current length and rotates each new token by another
    base than the cached keys, so the result depends on how a text was cut into steps. An `alpha`
    (TensorRT-LLM's own key) other than 1 scales the base of all positions.
    """
    if scaling.get("alpha") not in (None, 1):
        raise RecipeError(
            f"`rotary_scaling` has the `alpha` {scaling['alpha']}, which the decoder graph does "
            "not express",
            hint="use `engine.backend: trtllm`",
        )
    if max_seq_len > config.max_position_embeddings:
        raise RecipeError(
            f"`engine.max_seq_len` is {max_seq_len}, but dynamic NTK rotary scaling has no fixed "
            f"positions beyond `max_position_embeddings`, {config.max_position_embeddings}",
            hint=f"set `max_seq_len` to at most {config.max_position_embeddings}",
        )


def _llama3(scaling: Scaling, inv_freq: Floats) -> Floats:
    """Long wavelengths are stretched by `factor`, short ones kept, those between blended."""
    factor, low = np.float32(scaling["factor"]), np.float32(scaling["low_freq_factor"])
    high = np.float32(scaling["high_freq_factor"])
    trained = np.float32(scaling["original_max_position_embeddings"])
    wavelen = np.float32(2 * math.pi) / inv_freq
    stretched = np.where(wavelen > trained / low, inv_freq / factor, inv_freq)
    smooth = (trained / wavelen - low) / (high - low)
    blended = (np.float32(1) - smooth) * stretched / factor + smooth * stretched
    between = (wavelen >= trained / high) & (wavelen <= trained / low)
    return np.where(between, blended, stretched)


def _yarn(config: DecoderConfig, scaling: Scaling, wavelengths: Floats) -> tuple[Floats, float]:
    """Interpolated and extrapolated frequencies, joined by a ramp; cos and sin are scaled too."""
    trained = scaling.get("original_max_position_embeddings") or config.max_position_embeddings
    factor = scaling.get("factor") or config.max_position_embeddings / trained
    low = _correction_dim(config, trained, scaling.get("beta_fast") or 32)
    high = _correction_dim(config, trained, scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, config.head_size - 1)
    width = np.float32(high - low if high != low else 0.001)
    steps = np.arange(config.head_size // 2, dtype=np.float32)
    kept = np.float32(1) - np.clip((steps - np.float32(low)) / width, 0, 1)
    extrapolated = np.float32(1.0) / wavelengths
    interpolated = np.float32(1.0) / (np.float32(factor) * wavelengths)
    inv_freq = interpolated * (np.float32(1) - kept) + extrapolated * kept
    return inv_freq, _yarn_factor(scaling, factor)


def _correction_dim(config: DecoderConfig, trained: int, num_rotations: float) -> float:
    """The dim whose wavelength fits `num_rotations` times into the trained length."""
    wavelengths = math.log(trained / (num_rotations * 2 * math.pi))
    return config.head_size * wavelengths / (2 * math.log(config.rotary_base))


def _yarn_factor(scaling: Scaling, factor: float) -> float:
    """By what cos and sin are multiplied, which scales the attention logits by its square."""

    def magnitude(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    given = scaling.get("attention_factor")
    if given is not None:
        return float(given)
    weight, weight_all = scaling.get("mscale"), scaling.get("mscale_all_dim")
    return magnitude(weight) / magnitude(weight_all) if weight and weight_all else magnitude(1.0)
