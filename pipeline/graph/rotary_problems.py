"""Why no table of positions can say what a rotary scaling says. Pure: the plan asks it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TypeGuard

from pipeline.artifact import Json
from pipeline.errors import Problem
from pipeline.graph.rotary_description import LONG_ROPE, ROPE_TYPES, Rotary, rope_type

_LENGTH = "original_max_position_embeddings"
_NAMES = ("rope_type", "type", "rope_theta")

_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": (),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", _LENGTH),
    # Where a config leaves the length out, transformers and TensorRT-LLM take different ones.
    "yarn": (_LENGTH,),
    LONG_ROPE: (),
}
_OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": (),
    "dynamic": ("factor", "alpha", _LENGTH),
    "llama3": (),
    "yarn": ("factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"),
    LONG_ROPE: ("factor", "attention_factor", "short_mscale", "long_mscale", _LENGTH),
}
_NOT_NUMBERS: Mapping[str, tuple[str, ...]] = {
    "yarn": ("truncate",),
    LONG_ROPE: ("short_factor", "long_factor"),
}


def rotary_problems(rotary: Rotary, max_seq_len: int) -> list[Problem]:
    """Problems of the stage `build` for sequences of up to `max_seq_len` tokens; none: all is well.

    Every key is read, known to change nothing, or a problem. That a model has fewer positions than
    `max_seq_len` is not looked at here, but for dynamic NTK, which has no fixed ones beyond.
    """
    faults = list(_shape_faults(rotary))
    kind = rope_type(rotary)
    if kind not in ROPE_TYPES:
        known = ", ".join(f"`{name}`" for name in ROPE_TYPES)
        faults.append(f"`rotary_scaling` is of type `{kind}`; supported: {known}")
    else:
        faults += _key_faults(rotary, kind)
        faults += _long_rope_faults(rotary) if kind == LONG_ROPE else ()
    problems = [Problem("build", fault, _HINT) for fault in faults]
    if kind == "dynamic":
        problems += _growth_problems(rotary, max_seq_len)
    return problems


_HINT = "use the backend `trtllm`, or correct `config.json` of the checkpoint"


def _shape_faults(rotary: Rotary) -> Iterator[str]:
    if rotary.dim < 2 or rotary.dim % 2:
        yield f"{rotary.dim} dims of a head are rotated; rotary positions pair them"
    if not _is_number(rotary.base) or rotary.base <= 1:
        yield f"the rotary base is {rotary.base}, expected a number above 1"


def _key_faults(rotary: Rotary, kind: str) -> Iterator[str]:
    """Keys that are missing, unknown or of no use, and those that contradict each other."""
    scaling = {key: value for key, value in (rotary.scaling or {}).items() if value is not None}
    for name in _REQUIRED[kind]:
        if name not in scaling:
            yield f"`rotary_scaling` has no `{name}`"
    for name, value in sorted(scaling.items()):
        if not _is_key(kind, name):
            yield f"`rotary_scaling` has the key `{name}`, which `{kind}` does not have"
        elif expected := _expected(kind, name, value):
            yield f"`rotary_scaling` has the `{name}` `{value}`, expected {expected}"
    if scaling.get("rope_theta", rotary.base) != rotary.base:
        yield f"two rotary bases disagree: {rotary.base} and {scaling['rope_theta']}"
    if len({str(scaling[name]) for name in ("rope_type", "type") if name in scaling}) > 1:
        yield "`rope_type` and `type` of `rotary_scaling` disagree"
    low, high = scaling.get("low_freq_factor"), scaling.get("high_freq_factor")
    if _is_number(low) and _is_number(high) and not 0 < low < high:
        yield f"`low_freq_factor` {low} is not between 0 and `high_freq_factor` {high}"


def _is_key(kind: str, name: str) -> bool:
    known = (*_NAMES, *_REQUIRED[kind], *_OPTIONAL[kind], *_NOT_NUMBERS.get(kind, ()))
    return name in known


def _expected(kind: str, name: str, value: Json) -> str | None:
    """What a key should say, where it does not; None: it is as it should be."""
    if name == "truncate":
        return None if isinstance(value, bool) else "true or false"
    if name in (*_NAMES, *_NOT_NUMBERS.get(kind, ())):
        return None
    if name in (_LENGTH, "factor"):
        return None if _is_number(value) and value > 0 else "a number above 0"
    return None if _is_number(value) and value >= 0 else "a number of 0 or more"


def _long_rope_faults(rotary: Rotary) -> Iterator[str]:
    """The two sets of factors, the two mscales and the length: from the keys or from `scaling`."""
    scaling = rotary.scaling or {}
    for name, given in (("short", rotary.short_factors), ("long", rotary.long_factors)):
        factors = scaling.get(f"{name}_factor") if given is None else given
        count = len(factors) if isinstance(factors, list | tuple) else 0
        if count != rotary.dim // 2:
            yield f"`longrope` has {count} {name} factors for {rotary.dim} rotated dims of a head"
        elif not all(_is_number(factor) and factor > 0 for factor in factors or ()):
            yield f"`longrope` has {name} factors that are not numbers above 0"
    length = rotary.original_max_position_embeddings or scaling.get(_LENGTH)
    if length is None:
        yield f"`longrope` has no `{_LENGTH}`"
    elif length <= 1:
        yield f"`{_LENGTH}` is {length}, expected 2 or more"
    elif scaling.get(_LENGTH, length) != length:
        yield f"two `{_LENGTH}` disagree: {length} and {scaling[_LENGTH]}"
    short = rotary.short_mscale or scaling.get("short_mscale")
    long = rotary.long_mscale or scaling.get("long_mscale")
    if (short is None) != (long is None):
        yield "`longrope` has one of `short_mscale` and `long_mscale` without the other"


def _growth_problems(rotary: Rotary, max_seq_len: int) -> Iterator[Problem]:
    """Dynamic NTK is plain rotary up to the trained length; beyond it no table can say it.

    transformers then lets the base follow the current length and rotates each new token by another
    base than the cached keys, so the result depends on how a text was cut into steps. An `alpha`
    (TensorRT-LLM's own key) other than 1 scales the base of all positions.
    """
    alpha = (rotary.scaling or {}).get("alpha")
    if alpha not in (None, 1):
        yield Problem(
            "build",
            f"`rotary_scaling` has the `alpha` {alpha}, which the decoder graph does not express",
            "use `engine.backend: trtllm`",
        )
    if max_seq_len > rotary.max_position_embeddings:
        yield Problem(
            "build",
            f"`engine.max_seq_len` is {max_seq_len}, but dynamic NTK rotary scaling has no fixed "
            f"positions beyond `max_position_embeddings`, {rotary.max_position_embeddings}",
            f"set `engine.max_seq_len` to at most {rotary.max_position_embeddings}",
        )


def _is_number(value: Json) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
