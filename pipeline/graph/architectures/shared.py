"""What the config.json files of several classes have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import NoneType
from typing import Any, Literal

from pipeline.graph.description import Attention, Experts, Layer, Mlp, Norm
from pipeline.graph.expert_description import Routing
from pipeline.graph.keys import Keys
from pipeline.graph.rotary_description import Rotary


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the whole model."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_size: int
    max_position_embeddings: int


def sizes(keys: Keys, longest: int | None = None) -> Sizes:
    """The keys of `BASE_KEYS` that are sizes (TensorRT-LLM 1.2, `modeling_utils.py`).

    `longest`: what is taken for `max_position_embeddings` where there is none.
    """
    hidden, heads = keys.count("hidden_size"), keys.count("num_attention_heads")
    kv_heads = keys.count("num_key_value_heads", heads)
    ranks = num_ranks(keys)
    if heads % ranks:
        keys.faults.append(f"`mapping.tp_size` is {ranks}, which does not divide {heads} heads")
    check_kv_heads(keys, heads, kv_heads)
    known = {} if longest is None else {"default": longest}
    return Sizes(
        vocab_size=keys.count("vocab_size"),
        hidden_size=hidden,
        intermediate_size=keys.count("intermediate_size", 4 * hidden),
        num_hidden_layers=keys.count("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_size=keys.count("head_size", max(1, hidden // heads)),
        max_position_embeddings=keys.count("max_position_embeddings", **known),
    )


ANY_LENGTH = 2**31 - 1
"""Positions of a model whose ALiBi goes on for ever, where its config.json names no limit."""


def num_ranks(keys: Keys) -> int:
    """The tensor-parallel size; 1 where it is none (`keys.general` says so)."""
    size = keys.object("mapping").get("tp_size", 1)
    return size if type(size) is int and size > 0 else 1


def check_kv_heads(keys: Keys, heads: int, kv_heads: int) -> None:
    """Each serves as many heads; they are shared by the ranks, or each is repeated over some."""
    ranks = num_ranks(keys)
    if heads % kv_heads:
        keys.faults.append(
            f"`num_key_value_heads` is {kv_heads}, which does not divide {heads} heads"
        )
    if kv_heads % ranks and ranks % kv_heads:
        keys.faults.append(f"{kv_heads} K/V heads cannot be shared by {ranks} ranks")


def norm(keys: Keys, kind: Literal["rms", "layer"]) -> Norm:
    """The kind of norm that a class has everywhere."""
    return Norm(kind, keys.number("norm_epsilon", 1e-5))


def limits(of: Sizes) -> dict[str, Any]:
    """`longest_tokens` and its reason, of a model that is limited by its positions alone."""
    longest = of.max_position_embeddings
    return {
        "longest_tokens": longest,
        "longest_because": f"the model has {longest} positions",
    }


def rotary(keys: Keys, of: Sizes, *, interleaved: bool = False, dim: int | None = None) -> Rotary:
    """Rotary positions by the keys that most classes have; `dim` defaults to whole heads."""
    rotated = of.head_size if dim is None else dim
    if rotated % 2 or not 0 < rotated <= of.head_size:
        keys.faults.append(f"{rotated} dims of {of.head_size} are rotated; expected an even number")
    return Rotary(
        dim=rotated,
        base=keys.number("rotary_base", 10000.0),
        interleaved=interleaved,
        max_position_embeddings=of.max_position_embeddings,
        scaling=keys.object("rotary_scaling") or None,
    )


def whole(keys: Keys, of: Sizes, layers: tuple[Layer, ...], kind: Norm) -> dict[str, Any]:
    """The fields of a `Decoder` that every class has."""
    return {
        "architecture": keys.get("architecture"),
        "dtype": keys.get("dtype"),
        "vocab_size": of.vocab_size,
        "hidden_size": of.hidden_size,
        "norm": kind,
        "layers": layers,
        **limits(of),
    }


def attention(of: Sizes, **more: Any) -> Attention:
    """Attention of the whole model's sizes, scaled by `1 / sqrt(head_size)` if nothing else."""
    return Attention(
        num_attention_heads=of.num_attention_heads,
        num_key_value_heads=of.num_key_value_heads,
        head_size=of.head_size,
        **({"scale": of.head_size**-0.5} | more),
    )


def windows(keys: Keys, num_layers: int) -> tuple[int | None, ...]:
    """Our own key `attention_windows`: how many last tokens each layer sees; null for all."""
    given = keys.get("attention_windows", [None] * num_layers)
    right = isinstance(given, list) and len(given) == num_layers
    if not right or not all(w is None or (type(w) is int and w > 0) for w in given):
        keys.faults.append(f"`attention_windows` is not a list of {num_layers} windows")
        return (None,) * num_layers
    return tuple(given)


PLAIN_ACTIVATIONS = ("silu", "gelu_new", "gelu_pytorch_tanh", "relu")
"""Of MLPs in classes that take no exact `gelu`."""


def has_experts(keys: Keys) -> bool:
    """Whether the object `moe` says that there are experts."""
    count = keys.object("moe").get("num_experts")
    if type(count) not in (int, NoneType):
        keys.faults.append(f"`moe.num_experts` is `{count}`; expected a whole number")
        return False
    return bool(count)


def no_experts(keys: Keys) -> None:
    """The object `moe`, where only dense MLPs are supported."""
    if has_experts(keys):
        keys.faults.append("`moe` has experts; only dense MLPs are supported in this class")


_PLAIN, _RENORMALISED, _SPARSE_MIXER, _GROUPS = 0, 1, 2, 3


def experts(keys: Keys, size: int) -> Experts:
    """The object `moe` (TensorRT-LLM 1.2, `layers/moe.py`: MoeConfig); `size` of each expert.

    `hidden_act` of such a checkpoint is `swiglu`: SiLU on the half that is activated.
    """
    keys.choice("hidden_act", ("swiglu", "silu"))
    moe = keys.inner("moe")
    routing = _routing(moe)
    size_of_shared = "shared_expert_intermediate_size"
    shared = 0 if moe.get(size_of_shared, 0) == 0 else moe.count(size_of_shared)
    moe.neutral("tp_mode", 0)
    keys.faults += moe.finish()
    return Experts(
        name="mlp",
        routing=routing,
        intermediate_size=size,
        activation="silu",
        shared=Mlp("mlp.shared_expert", shared, "silu", "fused") if shared else None,
    )


def _routing(moe: Keys) -> Routing:
    modes = (_RENORMALISED, _PLAIN, _SPARSE_MIXER, _GROUPS)
    mode = moe.choice("normalization_mode", modes, _RENORMALISED)
    routing = Routing(
        num_experts=moe.count("num_experts"),
        top_k=moe.count("top_k"),
        scoring="sparse_mixer" if mode == _SPARSE_MIXER else "softmax",
        renormalised=mode == _RENORMALISED,
        epsilon=moe.positive("sparse_mixer_epsilon", 0.01),
    )
    if mode == _GROUPS:
        routing = replace(
            routing,
            scaling=moe.number("device_limited_routed_scaling_factor", 1.0),
            num_groups=moe.count("device_limited_n_group"),
            top_groups=moe.count("device_limited_topk_group"),
        )
    else:  # without groups nothing is scaled
        moe.neutral("device_limited_routed_scaling_factor", 1)
        moe.ignore("device_limited_n_group", "device_limited_topk_group")
    moe.faults += [f"`moe`: {problem}" for problem in routing.problems()]
    return routing
