"""GPTForCausalLM: GPT-2, SantaCoder, GPT-BigCode, StarCoder2, Nemotron and Jais.

Read: TensorRT-LLM 1.x `models/gpt/config.py`, `models/gpt/model.py`, `layers/attention.py` (logits
are divided by `sqrt(head_size) * q_scaling`; `int(head_size * rotary_pct)` dims are rotated,
whatever `rotary_embedding_dim` says); transformers 5.24 `modeling_gpt2.py`,
`modeling_gpt_bigcode.py`, `modeling_starcoder2.py`, `modeling_nemotron.py`.
"""

from __future__ import annotations

from typing import Any

from pipeline.graph.architectures.shared import (
    Sizes,
    attention,
    no_experts,
    norm,
    rotary,
    sizes,
    whole,
    windows,
)
from pipeline.graph.description import Alibi, Decoder, Layer, Mlp
from pipeline.graph.keys import Keys

_STARCODER2 = "Starcoder2ForCausalLM"

ARCHITECTURES = (
    *("GPT2LMHeadModel", "GPT2LMHeadCustomModel", "GPTBigCodeForCausalLM", _STARCODER2),
    *("NemotronForCausalLM", "JAISLMHeadModel"),
)

ACTIVATIONS = (
    *("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"),
    *("relu", "silu", "tanh", "squared-relu", "swiglu"),
)
"""`swiglu` is an MLP with a gate of its own: `proj(silu(fc(x)) * gate(x))`."""

_LEARNED, _ROTARY, _ALIBI = "learned_absolute", "rope_gpt_neox", "alibi"


def read(keys: Keys) -> Decoder:
    """The decoder of a GPT-like checkpoint."""
    of = sizes(keys)
    keys.neutral("qk_layernorm", False)
    keys.neutral("apply_query_key_layer_scaling", False)
    keys.neutral("inner_layernorm", False)
    keys.ignore("norm_before_bmm1")  # whether the scale comes before or after the product
    keys.ignore("gpt_variant")  # for TensorRT-LLM's converter
    keys.ignore("bias")  # said by the tensors
    no_experts(keys)
    placed = keys.choice("position_embedding_type", (_LEARNED, _ROTARY, _ALIBI), _LEARNED)
    positions = _positions(keys, of, placed)
    scale = of.head_size**-0.5 / keys.positive("q_scaling", 1.0)
    dense = mlp(keys, of)
    layers = tuple(
        Layer(attention(of, scale=scale, window=window, **positions), dense)
        for window in windows(keys, of.num_hidden_layers)
    )
    return Decoder(
        **whole(keys, of, layers, norm(keys, "layer")),
        embedding_multiplier=keys.number("embedding_scale", 1.0),
        learned_positions=placed == _LEARNED,
    )


def _positions(keys: Keys, of: Sizes, placed: str) -> dict[str, Any]:
    """What an attention is told of positions."""
    if placed == _ROTARY:
        dim = int(of.head_size * keys.number("rotary_pct", 1.0))
        keys.neutral("rotary_embedding_dim", of.head_size, dim)
        return {"rotary": rotary(keys, of, dim=dim)}
    keys.ignore("rotary_pct", "rotary_base", "rotary_scaling", "rotary_embedding_dim")
    return {"alibi": Alibi()} if placed == _ALIBI else {}


def mlp(keys: Keys, of: Sizes) -> Mlp:
    """The dense MLP.

    Of StarCoder2, TensorRT-LLM's converter and the family write `gelu` for `gelu_pytorch_tanh`.
    """
    kind = keys.choice("hidden_act", ACTIVATIONS)
    if kind == "swiglu":
        return Mlp("mlp", of.intermediate_size, "silu", "apart")
    if kind == "gelu" and keys.get("architecture") == _STARCODER2:
        kind = "gelu_pytorch_tanh"
    return Mlp("mlp", of.intermediate_size, kind, "none")
