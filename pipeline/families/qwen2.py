"""Dense Qwen 1.5, 2, 2.5, QwQ (one layout, as Qwen 2) and Qwen 3 (norms of queries and keys).

Read: transformers 4.57 and 5.23 (`configuration_qwen2.py`, `modeling_qwen2.py`,
`configuration_qwen3.py`, `modeling_qwen3.py`); TensorRT-LLM 1.x (`models/qwen/config.py`,
`models/qwen/model.py`, `models/qwen/convert.py`, `layers/attention.py`).

Otherwise than TensorRT-LLM's converter: an absent `rope_theta` is 10000, as in transformers, not
100000; biases of Qwen 3, which the class does not have, are refused, not passed over. The class
attends to all tokens in every layer, so its engine is right up to a sliding window. Known
difference of the class itself: it norms the queries and keys of Qwen 3 with an epsilon of 1e-5,
whatever `rms_norm_eps` is (1e-6 in published models).
"""

from __future__ import annotations

from pipeline.model_classes.qwen import QWEN
from pipeline.weights.config_rules import (
    Constant,
    Copy,
    Divides,
    Formula,
    Inert,
    Neutral,
    Require,
    Rope,
    Window,
)
from pipeline.weights.decoder_rules import (
    LAYER,
    embedding,
    head,
    norm,
    qkv,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import GENERAL_KEYS, LAYER_TYPES, SIZES
from pipeline.weights.layer_rules import attention_dense, gated_mlp, head_norms, rotary_buffer
from pipeline.weights.rope import ROPE_TYPES

_QWEN2 = "Qwen2ForCausalLM"
_QWEN3 = "Qwen3ForCausalLM"
_IS_QWEN3 = "qwen_type == 'qwen3'"

_CONFIG = (
    *SIZES,
    Constant("qwen_type", "qwen2", only=(_QWEN2,)),
    Constant("qwen_type", "qwen3", only=(_QWEN3,)),
    Constant("attn_bias", True, only=(_QWEN2,)),
    Constant("attn_bias", False, only=(_QWEN3,)),
    Neutral("attention_bias", (None, False), "the class has no bias to its output", only=(_QWEN3,)),
    Rope("rotary_base", "rotary_scaling", default_base=10000.0, types=ROPE_TYPES),
    Copy(
        "hidden_act",
        "text",
        default="silu",
        allowed=("silu", "gelu_new", "gelu_pytorch_tanh", "relu"),
        aliases={"swish": "silu"},
    ),
    Copy("norm_epsilon", "number", ("rms_norm_eps",), default=1e-6),
    Copy("max_position_embeddings", "count", default=32768),
    Copy("num_key_value_heads", "count"),
    Copy(
        "head_size",
        "count",
        ("head_dim",),
        default=Formula("hidden_size/num_attention_heads"),
        only=(_QWEN2,),
    ),
    Copy("head_size", "count", ("head_dim",), default=128, only=(_QWEN3,)),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    Require(
        f"not ({_IS_QWEN3}) or num_key_value_heads < num_attention_heads"
        " or num_attention_heads == 1",
        "as many K/V heads as query heads, with norms of both: TensorRT-LLM's attention takes "
        "queries, keys and values for interleaved then",
    ),
    Copy("tie_word_embeddings", "flag", default=False),
    Copy("use_sliding_window", "flag", default=False, written=False),
    *LAYER_TYPES,
    Copy("max_window_layers", "natural", default=28, written=False),
    Require(
        "use_sliding_window or not ('sliding_attention' in layer_types)",
        "`layer_types` has `sliding_attention`, but `use_sliding_window` is not true",
    ),
    Window(
        "sliding_window",
        default=4096,
        layers="layer_types[layer] == 'sliding_attention' if layer_types"
        " else layer >= max_window_layers",
        when="use_sliding_window",
    ),
    Neutral("use_mrope", (None, False), "one position per token"),
    Neutral("model_type", ("qwen2",), "the type of its class", only=(_QWEN2,)),
    Neutral("model_type", ("qwen3",), "the type of its class", only=(_QWEN3,)),
    Inert(("dual_chunk_attention_config",), "not read by transformers, which attends to all"),
    *GENERAL_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"

_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm"),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj", bias="attn_bias"),
    *head_norms(f"{_ATTENTION}.q_norm", f"{_ATTENTION}.k_norm", when=_IS_QWEN3),
    *attention_dense(f"{_ATTENTION}.o_proj"),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm"),
    *gated_mlp(f"{_SOURCE}.mlp"),
    *norm("model.norm", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
    *rotary_buffer(_ATTENTION),
)

FAMILY = Family(
    name="qwen2",
    architectures=(_QWEN2, _QWEN3),
    model_class=QWEN,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
