"""Qwen 1: Qwen-1.8B to 72B and their chat models, published with code of their own.

Read: the published `configuration_qwen.py` and `modeling_qwen.py` (Qwen/Qwen-7B);
TensorRT-LLM 1.x (`models/qwen/config.py`, `models/qwen/model.py`, `models/qwen/convert.py`).
`QWenForCausalLM` is TensorRT-LLM's own name for the same checkpoint.

Two methods for sequences longer than `seq_length`: a larger rotary base (`use_dynamic_ntk`), which
the class does not have, and scaled queries (`use_logn_attn`), which it has. So the engine is right
up to `seq_length` tokens. `intermediate_size` counts both halves of the MLP, in the target too.
"""

from __future__ import annotations

from pipeline.model_classes.qwen import QWEN
from pipeline.weights.config_rules import (
    Constant,
    Copy,
    Divides,
    Formula,
    Inert,
    Longest,
    Neutral,
    Require,
    Rope,
)
from pipeline.weights.decoder_rules import (
    LAYER,
    column_linear,
    embedding,
    fused_qkv,
    head,
    norm,
    row_linear,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import REMOTE_CODE_KEYS, SIZES
from pipeline.weights.layer_rules import attention_dense, rotary_buffer
from pipeline.weights.rope import ROPE_TYPES
from pipeline.weights.rules import Drop

_CONFIG = (
    *SIZES,
    Constant("qwen_type", "qwen"),
    Constant("hidden_act", "silu"),
    Rope(
        "rotary_base", None, default_base=10000.0, types=ROPE_TYPES, base_keys=("rotary_emb_base",)
    ),
    Copy("norm_epsilon", "number", ("layer_norm_epsilon",), default=1e-6),
    Copy("max_position_embeddings", "count", default=8192),
    Copy(
        "head_size", "count", ("kv_channels",), default=Formula("hidden_size/num_attention_heads")
    ),
    Require(
        "num_attention_heads*head_size == hidden_size",
        "`kv_channels` times `num_attention_heads` is not `hidden_size`",
    ),
    Divides("2", "head_size"),
    Divides("2", "intermediate_size"),
    Copy("seq_length", "count", default=8192),
    Longest("seq_length", default=8192),
    Copy("use_logn_attn", "flag", default=True),
    Copy("tie_word_embeddings", "flag", default=False),
    Neutral("no_bias", (None, True), "the class has no biases but those of queries, keys, values"),
    Neutral("rotary_pct", (None, 1, 1.0), "all of a head is rotated"),
    Neutral("scale_attn_weights", (None, True), "attention is scaled"),
    Neutral("use_cache_quantization", (None, False), "the cache is not quantized"),
    Neutral("model_type", ("qwen",), "the type of its class"),
    Inert(("use_dynamic_ntk",), "changes nothing up to `seq_length` tokens"),
    Inert(("attn_dropout_prob", "emb_dropout_prob"), "how it was trained"),
    Inert(
        (
            *("bf16", "fp16", "fp32", "onnx_safe", "use_flash_attn", "use_cache_kernel"),
            *("softmax_in_fp32",),
        ),
        "how its own code runs it",
    ),
    *REMOTE_CODE_KEYS,
)

_SOURCE = "transformer.h.{layer}"
_MLP_SIZE = "intermediate_size/2"

_WEIGHT_MAP = (
    *embedding("transformer.wte.weight"),
    *norm(f"{_SOURCE}.ln_1", f"{LAYER}.input_layernorm"),
    *fused_qkv(f"{_SOURCE}.attn.c_attn", bias="True"),
    *attention_dense(f"{_SOURCE}.attn.c_proj"),
    *norm(f"{_SOURCE}.ln_2", f"{LAYER}.post_layernorm"),
    # The second one goes through the activation.
    *column_linear(f"{_SOURCE}.mlp.w2", f"{LAYER}.mlp.fc", rows=_MLP_SIZE),
    *column_linear(f"{_SOURCE}.mlp.w1", f"{LAYER}.mlp.gate", rows=_MLP_SIZE),
    *row_linear(f"{_SOURCE}.mlp.c_proj", f"{LAYER}.mlp.proj", columns=_MLP_SIZE),
    *norm("transformer.ln_f", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "transformer.wte.weight"),
    Drop("transformer.rotary_emb.inv_freq", "a buffer, worked out from the rotary base"),
    *rotary_buffer(f"{_SOURCE}.attn"),
)

FAMILY = Family(
    name="qwen",
    architectures=("QWenLMHeadModel", "QWenForCausalLM"),
    model_class=QWEN,
    aliases=("QWenForCausalLM",),
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
