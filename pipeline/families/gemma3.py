"""Gemma 3, text only (`gemma3_text`): as Gemma 2, with norms of queries and keys, two rotary bases.

Read: transformers 4.57 and 5.23 (`configuration_gemma3.py`, `modeling_gemma3.py`); TensorRT-LLM 1.x
(`models/gemma/config.py`, `models/gemma/model.py`, `models/gemma/convert.py`,
`layers/attention.py`, `models/modeling_utils.py`). transformers multiplies a normed value with
1 + weight, TensorRT-LLM with the weight: 1 is added, in float32.

In layers with a window the class takes the other rotary base, but attends to all tokens, so its
engine is right up to `sliding_window` tokens. Refused: a rope scaling, for the class scales both
bases, the model only that of full attention, and TensorRT-LLM's converter passes it over;
soft-capping, which the class has for Gemma 2 alone. Known difference of the class itself: it norms
queries and keys with an epsilon of 1e-5, whatever `rms_norm_eps` is (1e-6 in published models).
"""

from __future__ import annotations

from pipeline.model_classes.gemma import GEMMA3
from pipeline.weights.config_rules import (
    Copy,
    Divides,
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
from pipeline.weights.general_keys import GENERAL_KEYS, SIZES
from pipeline.weights.layer_rules import attention_dense, gated_mlp, head_norms
from pipeline.weights.rope import ROPE_TYPES
from pipeline.weights.rules import Plus

_NO_CAP = "the class has soft-capping for Gemma 2 alone"

_SLIDES = "not ((layer + 1) % _sliding_window_pattern == 0)"

_CONFIG = (
    *SIZES,
    Copy("attn_bias", "flag", ("attention_bias",), default=False),
    Rope("rotary_base", None, default_base=1000000.0, types=ROPE_TYPES, layers="full_attention"),
    Rope(
        "rope_local_base_freq",
        None,
        default_base=10000.0,
        types=ROPE_TYPES,
        base_keys=("rope_local_base_freq",),
        layers="sliding_attention",
    ),
    Copy(
        "hidden_act",
        "text",
        ("hidden_activation", "hidden_act"),
        default="gelu_pytorch_tanh",
        allowed=("gelu_pytorch_tanh",),
    ),
    Copy("norm_epsilon", "number", ("rms_norm_eps",), default=1e-6),
    Copy("max_position_embeddings", "count", default=131072),
    Copy("num_key_value_heads", "count"),
    Copy("head_size", "count", ("head_dim",), default=256),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "head_size"),
    Require(
        "num_key_value_heads < num_attention_heads or num_attention_heads == 1",
        "as many K/V heads as query heads, with norms of both: TensorRT-LLM's attention takes "
        "queries, keys and values for interleaved then",
    ),
    Copy("query_pre_attn_scalar", "number", default=256),
    Neutral("final_logit_softcapping", (None,), _NO_CAP),
    Neutral("attn_logit_softcapping", (None,), _NO_CAP),
    Copy("tie_word_embeddings", "flag", default=True, written=False),
    Copy("sliding_window", "count", default=4096),
    Window("sliding_window", default=4096, layers=_SLIDES, when="True", written=False),
    Copy(
        "_sliding_window_pattern",
        "count",
        ("sliding_window_pattern", "_sliding_window_pattern"),
        default=6,
    ),
    Copy("layer_types", "list", default=[], written=False),
    Require(
        "not layer_types or layer_types == periodic('sliding_attention', 'full_attention',"
        " _sliding_window_pattern, num_hidden_layers)",
        "`layer_types` does not have full attention in every `sliding_window_pattern`th layer, "
        "where the class has it",
    ),
    Neutral("use_bidirectional_attention", (None, False), "decoders attend to earlier tokens only"),
    Neutral("model_type", ("gemma3_text",), "the type of its class"),
    Inert(("cache_implementation",), "how transformers runs it"),
    *GENERAL_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"
_ADD_ONE = Plus(1.0)

_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm", change=_ADD_ONE),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj", bias="attn_bias"),
    *head_norms(f"{_ATTENTION}.q_norm", f"{_ATTENTION}.k_norm", change=_ADD_ONE),
    *attention_dense(f"{_ATTENTION}.o_proj", bias="attn_bias"),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm", change=_ADD_ONE),
    *norm(
        f"{_SOURCE}.pre_feedforward_layernorm",
        f"{LAYER}.pre_feedforward_layernorm",
        change=_ADD_ONE,
    ),
    *gated_mlp(f"{_SOURCE}.mlp"),
    *norm(
        f"{_SOURCE}.post_feedforward_layernorm",
        f"{LAYER}.post_feedforward_layernorm",
        change=_ADD_ONE,
    ),
    *norm("model.norm", "transformer.ln_f", on="last", change=_ADD_ONE),
    *head("lm_head.weight", "model.embed_tokens.weight"),
)

FAMILY = Family(
    name="gemma3",
    architectures=("Gemma3ForCausalLM",),
    model_class=GEMMA3,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
