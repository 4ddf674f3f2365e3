"""DeciLMForCausalLM: Nemotron-NAS and DeciLM, whose layers differ: `layer_configs` says how.

Read: TensorRT-LLM 1.x `models/nemotron_nas/config.py`, `models/nemotron_nas/layer_config.py`,
`models/nemotron_nas/model.py` (attention or MLP may be a linear layer, or left out with its norm).
"""

from __future__ import annotations

from dataclasses import replace
from types import NoneType

from pipeline.graph.architectures.shared import (
    Sizes,
    attention,
    check_kv_heads,
    norm,
    rotary,
    sizes,
    whole,
)
from pipeline.graph.description import Attention, Decoder, Layer, Linear, Mlp
from pipeline.graph.keys import Keys

ARCHITECTURES = ("DeciLMForCausalLM",)


def read(keys: Keys) -> Decoder:
    """The decoder of a DeciLM checkpoint."""
    of = sizes(keys)
    keys.neutral("qk_layernorm", False)
    keys.neutral("position_embedding_type", "rope_gpt_neox")
    keys.neutral("rotary_embedding_dim", of.head_size)
    whole_heads = attention(of, rotary=rotary(keys, of))
    mlp = Mlp("ffn", of.intermediate_size, keys.choice("hidden_act", ("silu",)), "apart")
    like = Layer(whole_heads, mlp)
    layers = tuple(_layer(keys, like, config) for config in _configs(keys, of))
    _derived(keys, layers)
    return Decoder(**whole(keys, of, layers, norm(keys, "rms")))


def _configs(keys: Keys, of: Sizes) -> list[Keys]:
    """The keys of every layer."""
    configs = keys.get("layer_configs")
    if not isinstance(configs, list) or len(configs) != of.num_hidden_layers:
        keys.faults.append(f"`layer_configs` is not a list of {of.num_hidden_layers} layers")
        return []
    if not all(isinstance(config, dict) for config in configs):
        keys.faults.append("`layer_configs` is not a list of objects")
        return []
    return [Keys(config, "layer_configs.", ()) for config in configs]


def _layer(keys: Keys, like: Layer, config: Keys) -> Layer:
    """One layer: where its config says no number, that of the model holds."""
    attended, fed = config.inner("attention"), config.inner("ffn")
    assert isinstance(like.attention, Attention)
    assert isinstance(like.mlp, Mlp)
    kv_heads = attended.count("num_key_value_heads", like.attention.num_key_value_heads)
    size = fed.count("intermediate_size", like.mlp.intermediate_size)
    attentions: dict[str, Attention | Linear | None] = {
        "attention": replace(like.attention, num_key_value_heads=kv_heads),
        "linear": Linear("attention"),
        "no_op": None,
    }
    mlps: dict[str, Mlp | Linear | None] = {
        "mlp": replace(like.mlp, intermediate_size=size),
        "linear": Linear("ffn"),
        "no_op": None,
    }
    one = attentions[attended.choice("impl", tuple(attentions), "attention")]
    two = mlps[fed.choice("impl", tuple(mlps), "mlp")]
    check_kv_heads(keys, like.attention.num_attention_heads, kv_heads)
    keys.faults += [*config.finish(), *attended.finish(), *fed.finish()]
    return replace(
        like,
        attention=one,
        mlp=two,
        attention_norm=like.attention_norm if one is not None else None,
        mlp_norm=like.mlp_norm if two is not None else None,
    )


def _derived(keys: Keys, layers: tuple[Layer, ...]) -> None:
    """What TensorRT-LLM's converter works out from `layer_configs`, and writes beside it."""
    names = {Attention: "attention", Linear: "linear", NoneType: "no_op"}
    attentions = [layer.attention for layer in layers]
    heads = [one.num_key_value_heads for one in attentions if isinstance(one, Attention)]
    keys.neutral("layer_types", [names[type(one)] for one in attentions])
    keys.neutral("num_kv_heads_per_layer", heads)
