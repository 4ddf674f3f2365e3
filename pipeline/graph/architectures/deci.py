"""DeciLMForCausalLM: Nemotron-NAS and DeciLM, whose layers differ: `layer_configs` says how.

Read: TensorRT-LLM 1.x `models/nemotron_nas/config.py`, `models/nemotron_nas/layer_config.py`,
`models/nemotron_nas/model.py` (attention or MLP may be a linear layer, or left out with its norm).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.artifact import Json
from pipeline.graph.architectures.shared import Sizes, attention, norm, rotary, sizes, whole
from pipeline.graph.description import Attention, Decoder, Layer, Linear, Mlp
from pipeline.graph.keys import Keys

ARCHITECTURES = ("DeciLMForCausalLM",)


def read(keys: Keys) -> Decoder:
    """The decoder of a DeciLM checkpoint."""
    of = sizes(keys)
    keys.neutral("qk_layernorm", False)
    keys.neutral("position_embedding_type", "rope_gpt_neox")
    keys.neutral("rotary_embedding_dim", of.head_size)
    configs = keys.get("layer_configs")
    if not isinstance(configs, list) or len(configs) != of.num_hidden_layers:
        keys.faults.append(f"`layer_configs` is not a list of {of.num_hidden_layers} layers")
        configs = []
    whole_heads = attention(of, rotary=rotary(keys, of))
    activation = keys.choice("hidden_act", ("silu",))
    layers = tuple(_layer(keys, of, config, whole_heads, activation) for config in configs)
    return Decoder(**whole(keys, of, layers, norm(keys, "rms")))


def _layer(
    keys: Keys, of: Sizes, config: dict[str, Json], like: Attention, activation: str
) -> Layer:
    attended = _one_of(keys, config, "attention", ("impl", "num_key_value_heads"))
    fed = _one_of(keys, config, "ffn", ("impl", "intermediate_size"))
    kv_heads = attended.get("num_key_value_heads") or of.num_key_value_heads
    size = fed.get("intermediate_size") or of.intermediate_size
    one: Any = {
        "attention": replace(like, num_key_value_heads=kv_heads),
        "linear": Linear("attention"),
        "no_op": None,
    }.get(attended.get("impl", "attention"))
    two: Any = {
        "mlp": Mlp("ffn", size, activation, "apart"),
        "linear": Linear("ffn"),
        "no_op": None,
    }.get(fed.get("impl", "mlp"))
    return Layer(
        one,
        two,
        attention_norm="input_layernorm" if one is not None else None,
        mlp_norm="post_layernorm" if two is not None else None,
    )


_IMPLEMENTATIONS = {
    "attention": ("attention", "linear", "no_op"),
    "ffn": ("mlp", "linear", "no_op"),
}


def _one_of(
    keys: Keys, config: dict[str, Json], part: str, known: tuple[str, ...]
) -> dict[str, Json]:
    """A part of a layer's config, each of whose keys is known."""
    found: dict[str, Json] = config.get(part) or {}
    keys.faults += [f"`layer_configs.{part}.{name}` is not known" for name in found.keys() - known]
    if found.get("impl") not in (None, *_IMPLEMENTATIONS[part]):
        keys.faults.append(f"`layer_configs.{part}.impl` is `{found['impl']}`, which is not known")
    return found
