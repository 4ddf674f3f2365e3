"""ChatGLM2-6B, ChatGLM3-6B and GLM-4-9B, as published with code of their own.

Read: `configuration_chatglm.py` and `modeling_chatglm.py` of these models; TensorRT-LLM 0.17 and
1.x (`models/chatglm/config.py`, `convert.py`, `model.py`).

`rope_ratio` stretches positions in ChatGLM2 and multiplies the rotary base in ChatGLM3 and GLM-4.
Only the code tells which, so `_name_or_path` decides, as in TensorRT-LLM's converter. It needs that
name always; here a model without a ratio does not, for then the versions compute the same.

Differences from TensorRT-LLM's converter:
- It passes over `multi_query_attention` false, `kv_channels`, `post_layer_norm`, `original_rope`,
  `add_bias_linear`, `rmsnorm` and prefix tuning, where the class computes something else or the
  rules would not reach every tensor. Such models are refused.
- It converts for several pp ranks, on which the class does not run.
- ChatGLM-6B and GLM-10B are refused: their positions have two dims and their attention sees the
  whole prompt, in a layout that these rules do not have.
"""

from __future__ import annotations

from pipeline.model_classes.chatglm import CHATGLM
from pipeline.weights.config_rules import Computed, Copy, Divides, Formula, Inert, Neutral, Require
from pipeline.weights.decoder_rules import (
    LAYER,
    embedding,
    fused_qkv,
    head,
    norm,
    row_linear,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import REMOTE_CODE_KEYS
from pipeline.weights.rules import Drop, Make, Part, Pick, Shard

_OLD = "ChatGLM-6B and GLM-10B have another layout, which is not converted"
_IS_GLM4 = "('glm4' in origin or 'glm-4' in origin or 'glm_4' in origin)"
_VERSION = (
    f"'glm4' if {_IS_GLM4} else 'chatglm3' if 'chatglm3' in origin else"
    " 'chatglm2' if 'chatglm2' in origin else 'unknown'"
)

_POSITIONS = (
    Copy("origin", "text", ("_name_or_path",), default="", written=False),
    Copy("rope_ratio", "number", default=1, written=False),
    Computed("found_version", _VERSION, written=False),
    Require(
        "rope_ratio == 1 or not (found_version == 'unknown')",
        "`rope_ratio` is not 1, and `_name_or_path` does not say of which version the model is",
        hint="let `_name_or_path` name the model that it was made from, such as "
        "`THUDM/chatglm3-6b-32k`",
    ),
    Computed("chatglm_version", "'chatglm3' if found_version == 'unknown' else found_version"),
    Computed("rotary_base", "10000.0 if chatglm_version == 'chatglm2' else 10000.0*rope_ratio"),
    Computed(
        "rotary_scaling",
        "{'type': 'linear', 'factor': rope_ratio}"
        " if chatglm_version == 'chatglm2' and not (rope_ratio == 1) else None",
    ),
)

_CONFIG = (
    Copy("vocab_size", "count", ("padded_vocab_size", "vocab_size")),
    Copy("hidden_size", "count"),
    Copy("num_hidden_layers", "count", ("num_layers", "num_hidden_layers")),
    Copy("num_attention_heads", "count"),
    Copy("intermediate_size", "count", ("ffn_hidden_size",)),
    Copy("norm_epsilon", "number", ("layernorm_epsilon",), default=1e-5),
    Copy("max_position_embeddings", "count", ("seq_length",)),
    Copy("num_key_value_heads", "count", ("multi_query_group_num",)),
    Copy("add_qkv_bias", "flag", default=False),
    Copy("apply_residual_connection_post_layernorm", "flag", default=False),
    Copy(
        "kv_channels",
        "count",
        default=Formula("hidden_size/num_attention_heads"),
        written=False,
    ),
    *_POSITIONS,
    Divides("num_attention_heads", "hidden_size"),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("4", "head_size"),
    Require(
        "kv_channels*num_attention_heads == hidden_size",
        "`kv_channels` is not `hidden_size` / `num_attention_heads`: the target's heads have that",
    ),
    Neutral("model_type", ("chatglm",), "the type of its class"),
    Neutral("position_encoding_2d", (None,), _OLD),
    Neutral("inner_hidden_size", (None,), _OLD),
    Neutral("block_position_encoding", (None,), _OLD),
    Neutral("multi_query_attention", (True,), "query heads share K/V heads"),
    Neutral("rmsnorm", (True,), "the norms have no bias"),
    Neutral("post_layer_norm", (None, True), "the target always has the last norm"),
    Neutral("original_rope", (None, True), "pairs of the first half of a head are rotated"),
    Neutral("add_bias_linear", (None, False), "only queries, keys and values have a bias"),
    Neutral("interleaved_qkv", (None, False), "all queries are first"),
    Neutral("fp32_residual_connection", (None, False), "the target adds in its own dtype"),
    Neutral("tie_word_embeddings", (None, False), "the head is a tensor of its own"),
    Neutral("pre_seq_len", (None,), "the target has no tuned prefix"),
    Neutral("prefix_projection", (None, False), "the target has no tuned prefix"),
    Neutral("quantization_bit", (None, 0), "quantized sources are not converted"),
    Inert(
        ("apply_query_key_layer_scaling", "attention_softmax_in_fp32", "bias_dropout_fusion"),
        "how its kernels run; a scale is applied and taken back",
    ),
    Inert(("hidden_dropout", "classifier_dropout"), "how it was trained"),
    *REMOTE_CODE_KEYS,
)

_SOURCE = "transformer.encoder.layers.{layer}"
_EMBEDDING = "transformer.embedding.word_embeddings.weight"
_FC = f"{_SOURCE}.mlp.dense_h_to_4h.weight"
_FC_SHAPE = ("2*intermediate_size", "hidden_size")
_ROWS = (Shard(0, "intermediate_size"),)

_WEIGHT_MAP = (
    *embedding(_EMBEDDING),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm"),
    *fused_qkv(f"{_SOURCE}.self_attention.query_key_value", bias="add_qkv_bias"),
    *row_linear(
        f"{_SOURCE}.self_attention.dense",
        f"{LAYER}.attention.dense",
        columns="hidden_size",
        unit="num_attention_heads",
    ),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm"),
    # The source gates by its first half, the target's swiglu by its second (`functional.py`).
    Make(
        f"{LAYER}.mlp.fc.weight",
        (
            Part(_FC, _FC_SHAPE, _ROWS, Pick(0, "1", "intermediate_size", "2*intermediate_size")),
            Part(_FC, _FC_SHAPE, _ROWS, Pick(0, "1", "0", "intermediate_size")),
        ),
    ),
    *row_linear(f"{_SOURCE}.mlp.dense_4h_to_h", f"{LAYER}.mlp.proj"),
    *norm("transformer.encoder.final_layernorm", "transformer.ln_f", on="last"),
    *head("transformer.output_layer.weight", _EMBEDDING, tied="False"),
    Drop("transformer.rotary_pos_emb.inv_freq", "a buffer, worked out from the rotary base"),
)

FAMILY = Family(
    name="chatglm",
    architectures=("ChatGLMModel", "ChatGLMForConditionalGeneration", "ChatGLMForCausalLM"),
    aliases=("ChatGLMForCausalLM", "ChatGLMForConditionalGeneration"),
    model_class=CHATGLM,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
    # The name that every release of TensorRT-LLM has for the class.
    writes_architecture="ChatGLMModel",
)
