"""InternLM2 and InternLM2.5 (InternLM2ForCausalLM).

Read: the config.json files as published; MindIE's port of `configuration_internlm2.py`;
TensorRT-LLM 0.17 to 1.x (`examples/**/internlm2/convert_checkpoint.py`, `models/llama/config.py`,
`models/llama/model.py`).

The rows of `wqkv` are one group per K/V head: its query heads, then its key, then its value.

Differences from TensorRT-LLM's converter, with the reasons:
- It names fewer keys in config.json; the class takes for the others what is written here.
- Without an option its dtype is float16; here it is the source's.
- It cannot cut biases of `wqkv`; here they are shared as its rows are.
- It needs a model that holds `output.weight`; here a tied one is converted too.
"""

from __future__ import annotations

from pipeline.model_classes.llama import LLAMA
from pipeline.weights.config_rules import Copy, Divides, Formula, Neutral, Rope
from pipeline.weights.decoder_rules import (
    LAYER,
    embedding,
    fused_qkv,
    head,
    norm,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import REMOTE_CODE_KEYS, SIZES
from pipeline.weights.layer_rules import attention_dense, gated_mlp, rotary_buffer
from pipeline.weights.rope import ROPE_TYPES

_CONFIG = (
    *SIZES,
    Copy(
        "hidden_act",
        "text",
        allowed=("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"),
        aliases={"swish": "silu"},
    ),
    Copy("norm_epsilon", "number", ("rms_norm_eps",)),
    Copy("max_position_embeddings", "count"),
    Copy("num_key_value_heads", "count", default=Formula("num_attention_heads")),
    Copy("attn_bias", "flag", ("bias",), default=True),
    Divides("num_attention_heads", "hidden_size"),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    Rope(
        "rotary_base",
        "rotary_scaling",
        default_base=10000.0,
        types={name: ROPE_TYPES[name] for name in ("linear", "dynamic")},
    ),
    Copy("tie_word_embeddings", "flag", default=False),
    Neutral("model_type", ("internlm2",), "the type of its class"),
    *REMOTE_CODE_KEYS,
)

_SOURCE = "model.layers.{layer}"

_WEIGHT_MAP = (
    *embedding("model.tok_embeddings.weight"),
    *norm(f"{_SOURCE}.attention_norm", f"{LAYER}.input_layernorm"),
    *fused_qkv(f"{_SOURCE}.attention.wqkv", groups="num_key_value_heads", bias="attn_bias"),
    *attention_dense(f"{_SOURCE}.attention.wo", bias="attn_bias"),
    *norm(f"{_SOURCE}.ffn_norm", f"{LAYER}.post_layernorm"),
    # The MLP computes w2(act(w1(x)) * w3(x)).
    *gated_mlp(f"{_SOURCE}.feed_forward", "w1", "w3", "w2"),
    *norm("model.norm", "transformer.ln_f", on="last"),
    *head("output.weight", "model.tok_embeddings.weight"),
    *rotary_buffer(f"{_SOURCE}.attention"),
)

FAMILY = Family(
    name="internlm2",
    architectures=("InternLM2ForCausalLM",),
    model_class=LLAMA,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
