"""Rotary position settings of a source, in the spellings of transformers 4 and 5, as one.

transformers 4 writes `rope_theta` and `rope_scaling` (with `type`, later `rope_type`);
transformers 5 writes `rope_parameters` with everything inside (`modeling_rope_utils.py`). A reader
that knows one spelling takes the default base 10000 from the other, silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.artifact import Json
from pipeline.weights.config_rules import MAX_NUMBER, Rope, RopeType

KEYS = ("rope_theta", "rope_scaling", "rope_parameters")
"""The keys of a source config that are read here."""

ROPE_TYPES: Mapping[str, RopeType] = {
    "linear": RopeType(("factor",)),
    # TensorRT-LLM's table of positions takes `alpha` where a source has none, and 1 changes nothing
    # in it; its kernels let the base grow by `factor`, beyond `max_position_embeddings` alone.
    # Source: `functional.py`, create_sinusoidal_positions_for_attention_plugin;
    # `decoderMaskedMultiheadAttentionUtils.h`, update_rotary_base_n_scale.
    "dynamic": RopeType(
        ("factor",), ("original_max_position_embeddings",), added=(("alpha", 1.0),)
    ),
    "llama3": RopeType(
        ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
        length_default=True,
    ),
    "yarn": RopeType(
        ("factor", "original_max_position_embeddings"),
        ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
        length_default=True,
    ),
}
"""The scalings that `position_embedding_type` rope_gpt_neox computes in TensorRT-LLM 1.x.

Source: `layers/attention.py`, `create_attention_const_params`. Not here: `longrope`, whose factors
it ignores without the position type long_rope.
"""

_TYPE_KEYS = ("rope_type", "type")
_LENGTH_KEY = "original_max_position_embeddings"
_LAYER_TYPES = {"full_attention", "sliding_attention"}
_FRACTION_KEY = "partial_rotary_factor"


@dataclass(frozen=True, slots=True)
class RopeSettings:
    """`base` is the rotary base; `scaling` the dict to write, None without scaling.

    `fraction` is the rotated part of a head.
    """

    base: float
    scaling: dict[str, Json] | None
    fraction: float
    faults: tuple[str, ...]


def keys_of(rule: Rope) -> tuple[str, ...]:
    """The keys of a source config that the rule reads."""
    return (*rule.base_keys, *KEYS[1:], *(rule.fraction_keys if rule.fraction else ()))


def read_rope(rule: Rope, config: Mapping[str, Json]) -> RopeSettings:
    """Rotary base and scaling; conflicting spellings, unknown types and keys are faults."""
    faults: list[str] = []
    config = _of_layers(rule, config, faults)
    dicts = {key: config[key] for key in KEYS[1:] if config.get(key) is not None}
    for key in [key for key, value in dicts.items() if not isinstance(value, dict)]:
        faults.append(f"`{key}` is not an object")
        del dicts[key]
    base = _base(rule, config, dicts, faults)
    fraction = _fraction(rule, config, dicts, faults)
    scalings = {key: _scaling(key, value, faults) for key, value in dicts.items()}
    scaling = next((value for value in scalings.values() if value is not None), None)
    if len({_comparable(value) for value in scalings.values()}) > 1:
        faults.append("`rope_scaling` and `rope_parameters` disagree")
    if scaling is not None:
        scaling = _check_type(rule, config, scaling, faults)
        if rule.scaling is None:
            faults.append("a rope scaling, which the target cannot express")
    return RopeSettings(base, scaling, fraction, tuple(faults))


def _of_layers(rule: Rope, config: Mapping[str, Json], faults: list[str]) -> Mapping[str, Json]:
    """The config as it is for one type of layers; `rope_scaling` is of those with full attention.

    Source: transformers 5 `models/gemma3/configuration_gemma3.py`, convert_rope_params_to_dict.
    """
    if rule.layers is None:
        return config
    of_layers = {**config}
    if rule.layers != "full_attention":
        of_layers["rope_scaling"] = None
    parameters = config.get("rope_parameters")
    if parameters is not None:
        known = isinstance(parameters, dict) and isinstance(parameters.get(rule.layers), dict)
        if not known:
            faults.append(f"`rope_parameters` has no object for `{rule.layers}`")
        extra = sorted(parameters.keys() - _LAYER_TYPES) if known else ()
        faults += [f"`rope_parameters` has an unknown type of layers `{name}`" for name in extra]
        of_layers["rope_parameters"] = parameters[rule.layers] if known else None
    return of_layers


def _fraction(
    rule: Rope, config: Mapping[str, Json], dicts: Mapping[str, Json], faults: list[str]
) -> float:
    """The rotated part of a head, from the config or from inside one of the dicts."""
    given = {f"{key}.{_FRACTION_KEY}": value.get(_FRACTION_KEY) for key, value in dicts.items()}
    if rule.fraction is not None:
        given |= {key: config.get(key) for key in rule.fraction_keys}
    given = {key: value for key, value in given.items() if value is not None}
    if rule.fraction is None:
        faults += [f"`{key}` is not 1" for key, value in given.items() if value != 1]
        return 1.0
    found = {key: value for key, value in given.items() if _is_positive(value) and value <= 1}
    bad = [key for key in given if key not in found]
    faults += [f"`{key}` is `{given[key]}`, expected a number above 0, up to 1" for key in bad]
    if len(set(found.values())) > 1:
        faults.append(f"{' and '.join(f'`{key}`' for key in found)} disagree")
    return next(iter(found.values()), rule.default_fraction)


def _base(
    rule: Rope, config: Mapping[str, Json], dicts: Mapping[str, Json], faults: list[str]
) -> float:
    given: dict[str, Json] = {key: config.get(key) for key in rule.base_keys}
    given |= {f"{key}.rope_theta": value.get("rope_theta") for key, value in dicts.items()}
    given = {key: value for key, value in given.items() if value is not None}
    found: dict[str, float] = {key: v for key, v in given.items() if _is_positive(v)}
    bad = given.keys() - found.keys()
    faults += [f"`{key}` is `{given[key]}`, expected a number above 0" for key in sorted(bad)]
    if len(set(found.values())) > 1:
        shown = " and ".join(f"`{key}` {value}" for key, value in found.items())
        faults.append(f"{shown} disagree")
    if not given and rule.default_base is None:
        faults.append(f"`{rule.base_keys[0]}` is missing")
    return next(iter(found.values()), rule.default_base or 0.0)


def _scaling(key: str, value: Mapping[str, Json], faults: list[str]) -> dict[str, Json] | None:
    """The dict without what is not scaling; None for the type `default`."""
    given = [(name, value[name]) for name in _TYPE_KEYS if value.get(name) is not None]
    bad = [(name, item) for name, item in given if not isinstance(item, str)]
    if bad:
        faults += [f"`{key}.{name}` is `{item}`, expected a text" for name, item in bad]
        return None
    types = {item for _, item in given}
    if len(types) > 1:
        faults.append(f"`{key}.rope_type` and `{key}.type` disagree")
    dropped = {"rope_theta", _FRACTION_KEY}
    dropped |= {name for name in _TYPE_KEYS if value.get(name) is None}
    scaling = {name: item for name, item in value.items() if name not in dropped}
    if types <= {"default"}:
        faults += [f"`{key}.{name}` without a rope type" for name in scaling.keys() - {*_TYPE_KEYS}]
        return None
    return scaling


def _comparable(scaling: dict[str, Json] | None) -> str:
    """Equal for equal settings, whatever the order and the spelling of the type."""
    if scaling is None:
        return "default"
    items = {name: value for name, value in scaling.items() if name not in _TYPE_KEYS}
    return f"{_type(scaling)} {sorted(items.items())}"


def _type(scaling: Mapping[str, Json]) -> Json:
    return next(scaling[name] for name in _TYPE_KEYS if name in scaling)


def _check_type(
    rule: Rope, config: Mapping[str, Json], scaling: dict[str, Json], faults: list[str]
) -> dict[str, Json]:
    """Check the keys of the type; write the length out where its default is not the target's."""
    kind = _type(scaling)
    rope_type = rule.types.get(kind)
    if rope_type is None:
        known = ", ".join(f"`{name}`" for name in ("default", *rule.types))
        faults.append(f"the rope type `{kind}` is not supported; supported: {known}")
        return scaling
    if rope_type.length_default and scaling.get(_LENGTH_KEY) is None:
        scaling[_LENGTH_KEY] = config.get("max_position_embeddings")
    faults += _key_faults(kind, rope_type, scaling)
    return {**scaling, **dict(rope_type.added)}


def _key_faults(kind: str, rope_type: RopeType, scaling: Mapping[str, Json]) -> list[str]:
    given = {name for name, value in scaling.items() if value is not None} - {*_TYPE_KEYS}
    faults = [f"`{kind}` rope needs `{name}`" for name in rope_type.required if name not in given]
    for name in sorted(given):
        if name not in (*rope_type.required, *rope_type.optional):
            faults.append(f"unknown key `{name}` of `{kind}` rope")
        elif name in rope_type.lists:
            if not isinstance(scaling[name], list) or not all(map(_is_value, scaling[name])):
                faults.append(f"`{name}` of `{kind}` rope is not a list of numbers")
        elif not _is_value(scaling[name]):
            faults.append(f"`{name}` of `{kind}` rope is `{scaling[name]}`, expected a number")
    return faults


def _is_value(value: Json) -> bool:
    return isinstance(value, bool) or (isinstance(value, int | float) and abs(value) <= MAX_NUMBER)


def _is_positive(value: Json) -> bool:
    return _is_value(value) and not isinstance(value, bool) and value > 0
