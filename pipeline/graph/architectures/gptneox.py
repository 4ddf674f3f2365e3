"""GPTNeoXForCausalLM: attention and MLP side by side, each with a norm of its own.

Read: TensorRT-LLM 1.x `models/gptneox/model.py`, `examples/models/contrib/gptneox/` (whose
converter writes `rotary_emb_base` alone); transformers 5.24 `modeling_gpt_neox.py`. Layers one
after the other (`use_parallel_residual` false) are not in this class.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.graph.architectures.shared import Sizes, attention, norm, rotary, sizes, whole
from pipeline.graph.description import Decoder, Layer, Mlp
from pipeline.graph.keys import Keys
from pipeline.graph.rotary_description import Rotary

ARCHITECTURES = ("GPTNeoXForCausalLM",)

ACTIVATIONS = ("gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "relu")


def read(keys: Keys) -> Decoder:
    """The decoder of a GPT-NeoX checkpoint."""
    of = sizes(keys)
    keys.neutral("qk_layernorm", False)
    keys.neutral("position_embedding_type", "rope_gpt_neox")
    layer = Layer(
        attention(of, rotary=_rotary(keys, of)),
        Mlp("mlp", of.intermediate_size, keys.choice("hidden_act", ACTIVATIONS), "none"),
        mlp_norm="post_attention_layernorm",
        parallel=True,
    )
    return Decoder(**whole(keys, of, (layer,) * of.num_hidden_layers, norm(keys, "layer")))


def _rotary(keys: Keys, of: Sizes) -> Rotary:
    """Part of a head is rotated; the base has two names, which must agree."""
    dim = int(of.head_size * keys.number("rotary_pct"))
    keys.neutral("rotary_embedding_dim", of.head_size, dim)
    base = keys.number("rotary_emb_base")
    keys.neutral("rotary_base", base)
    return replace(rotary(keys, of, dim=dim), base=base)
