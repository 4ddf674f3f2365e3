"""What the config.json files of several classes have in common."""

from __future__ import annotations

from dataclasses import dataclass
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


def sizes(keys: Keys) -> Sizes:
    """The keys of `BASE_KEYS` that are sizes (TensorRT-LLM 1.2, `modeling_utils.py`)."""
    hidden, heads = keys.count("hidden_size"), keys.count("num_attention_heads")
    kv_heads = keys.count("num_key_value_heads", heads)
    for divided, name, divisor in (
        (heads, "num_key_value_heads", kv_heads),
        (heads, "mapping.tp_size", keys.object("mapping").get("tp_size", 1)),
    ):
        if divided % divisor:
            keys.faults.append(f"`{name}` is {divisor}, which does not divide {divided} heads")
    return Sizes(
        vocab_size=keys.count("vocab_size"),
        hidden_size=hidden,
        intermediate_size=keys.count("intermediate_size", 4 * hidden),
        num_hidden_layers=keys.count("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_size=keys.count("head_size", max(1, hidden // heads)),
        max_position_embeddings=keys.count("max_position_embeddings"),
    )


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


def no_experts(keys: Keys) -> None:
    """The object `moe`, where only dense MLPs are supported."""
    if keys.object("moe").get("num_experts"):
        keys.faults.append("`moe` has experts; only dense MLPs are supported in this class")


_PLAIN, _RENORMALISED, _SPARSE_MIXER, _GROUPS = 0, 1, 2, 3
_MOE_KEYS = (
    *("num_experts", "top_k", "normalization_mode", "sparse_mixer_epsilon", "tp_mode"),
    *("shared_expert_intermediate_size", "device_limited_n_group", "device_limited_topk_group"),
    "device_limited_routed_scaling_factor",
)


def experts(keys: Keys, size: int) -> Experts:
    """The object `moe` (TensorRT-LLM 1.2, `layers/moe.py`: MoeConfig); `size` of each expert.

    `hidden_act` of such a checkpoint is `swiglu`: SiLU on the half that is activated.
    """
    keys.choice("hidden_act", ("swiglu", "silu"))
    moe = keys.object("moe")
    unknown = [name for name in moe if name not in _MOE_KEYS]
    keys.faults += [f"`moe.{name}` is not known" for name in unknown]
    mode = moe.get("normalization_mode", _RENORMALISED)
    if mode not in (_PLAIN, _RENORMALISED, _SPARSE_MIXER, _GROUPS) or moe.get("tp_mode", 0) != 0:
        keys.faults.append("`moe` has a `normalization_mode` or `tp_mode` that is not known")
    grouped = mode == _GROUPS
    routing = Routing(
        num_experts=moe["num_experts"],
        top_k=moe.get("top_k", 0),
        scoring="sparse_mixer" if mode == _SPARSE_MIXER else "softmax",
        renormalised=mode == _RENORMALISED,
        scaling=float(moe.get("device_limited_routed_scaling_factor", 1.0)) if grouped else 1.0,
        num_groups=moe.get("device_limited_n_group", 1) if grouped else 1,
        top_groups=moe.get("device_limited_topk_group", 1) if grouped else 1,
        epsilon=float(moe.get("sparse_mixer_epsilon", 0.01)),
    )
    keys.faults += [f"`moe`: {problem}" for problem in routing.problems()]
    shared = moe.get("shared_expert_intermediate_size", 0)
    return Experts(
        name="mlp",
        routing=routing,
        intermediate_size=size,
        activation="silu",
        shared=Mlp("mlp.shared_expert", shared, "silu", "fused") if shared else None,
    )
