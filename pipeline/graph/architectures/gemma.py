"""GemmaForCausalLM: Gemma 1, 2 and 3 (text), told apart by the architecture.

Read: TensorRT-LLM 1.x `models/gemma/config.py`, `models/gemma/model.py`; transformers 5
`modeling_gemma.py`, `modeling_gemma2.py`, `modeling_gemma3.py`. Norm weights are complete factors
here (`1 +` is in them); embeddings are multiplied with `sqrt(hidden_size)`.
"""

from __future__ import annotations

import math
from dataclasses import replace

from pipeline.graph.architectures.shared import (
    Sizes,
    attention,
    norm,
    rotary,
    sizes,
    whole,
    windows,
)
from pipeline.graph.description import Attention, Decoder, Layer, Mlp
from pipeline.graph.keys import Keys

ARCHITECTURES = ("GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM")


def read(keys: Keys) -> Decoder:
    """The decoder of a Gemma checkpoint."""
    of, architecture = sizes(keys), keys.get("architecture")
    keys.neutral("qk_layernorm", False)  # the class goes by the architecture
    keys.neutral("position_embedding_type", "rope_gpt_neox")
    keys.neutral("rotary_embedding_dim", of.head_size)
    keys.neutral("inter_layernorms", architecture != "GemmaForCausalLM")
    keys.ignore("attn_bias", "mlp_bias")  # said by the tensors
    rms = norm(keys, "rms")
    # TensorRT-LLM's converter writes `gelu`, which is the tanh form to it.
    keys.choice("hidden_act", ("gelu_pytorch_tanh", "gelu"))
    mlp = Mlp("mlp", of.intermediate_size, "gelu_pytorch_tanh", "apart")
    attentions = _READERS[architecture](keys, of)
    if architecture == "GemmaForCausalLM":
        layers = tuple(Layer(one, mlp) for one in attentions)
    else:
        layers = tuple(_sandwich(one, mlp) for one in attentions)
    return Decoder(
        **whole(keys, of, layers, rms),
        embedding_multiplier=math.sqrt(of.hidden_size),
        logits_softcap=keys.limit("final_logit_softcapping"),
    )


def _sandwich(one: Attention, mlp: Mlp) -> Layer:
    return Layer(
        one,
        mlp,
        mlp_norm="pre_feedforward_layernorm",
        attention_out_norm="post_layernorm",
        mlp_out_norm="post_feedforward_layernorm",
    )


def _gemma(keys: Keys, of: Sizes) -> list[Attention]:
    seen = windows(keys, of.num_hidden_layers)
    return [attention(of, rotary=rotary(keys, of), window=window) for window in seen]


def _gemma2(keys: Keys, of: Sizes) -> list[Attention]:
    cap = keys.limit("attn_logit_softcapping")
    return [
        attention(
            of,
            scale=keys.positive("query_pre_attn_scalar") ** -0.5,
            rotary=rotary(keys, of),
            window=window,
            softcap=cap,
        )
        for window in windows(keys, of.num_hidden_layers)
    ]


def _gemma3(keys: Keys, of: Sizes) -> list[Attention]:
    """Layers have a window and a rotary base of their own, but each `_sliding_window_pattern`th."""
    rms = norm(keys, "rms")
    scale = keys.positive("query_pre_attn_scalar") ** -0.5
    period, window = keys.count("_sliding_window_pattern"), keys.count("sliding_window")
    everywhere = rotary(keys, of)
    near = replace(everywhere, base=keys.number("rope_local_base_freq"), scaling=None)
    keys.neutral("rotary_scaling")
    return [
        attention(of, scale=scale, rotary=everywhere, head_norm=rms)
        if (layer + 1) % period == 0
        else attention(of, scale=scale, rotary=near, window=window, head_norm=rms)
        for layer in range(of.num_hidden_layers)
    ]


_READERS = {
    "GemmaForCausalLM": _gemma,
    "Gemma2ForCausalLM": _gemma2,
    "Gemma3ForCausalLM": _gemma3,
}
