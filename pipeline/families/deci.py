"""DeciLM-7B, and Llama-Nemotron models that were made from others layer by layer (nemotron-nas).

Read: the Python code that their checkpoints are published with (`configuration_decilm.py`,
`block_config.py`, `modeling_decilm.py`); TensorRT-LLM 0.17 to 1.x (`models/nemotron_nas/config.py`,
`models/nemotron_nas/convert.py`, `models/nemotron_nas/model.py`).

Unlike TensorRT-LLM's converter: blocks with a window or sinks, which it drops, are refused, and so
are biases; a head that is tied to the embedding is made from it; models without `block_configs` or
`num_key_value_heads_per_layer`, with which its class fails, are refused. `layer_types` and
`num_kv_heads_per_layer` are not written: the class does not read them.
"""

from __future__ import annotations

from pipeline.model_classes.deci import DECI
from pipeline.weights.config_rules import (
    Copy,
    Divides,
    Each,
    Formula,
    Neutral,
    Require,
    Rope,
)
from pipeline.weights.decoder_rules import (
    LAYER,
    QUERIES,
    column_linear,
    head,
    norm,
    row_linear,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import REMOTE_CODE_KEYS
from pipeline.weights.layer_rules import rotary_buffer
from pipeline.weights.rope import ROPE_TYPES
from pipeline.weights.rules import Make, Part, Shard

_BLOCKS = Each(
    "layer_configs",
    "block_configs",
    values={
        "attention.impl": "'no_op' if item.attention.no_op else "
        "'linear' if item.attention.replace_with_linear else 'attention'",
        "attention.num_key_value_heads": "None if item.attention.no_op "
        "or item.attention.replace_with_linear "
        "else num_attention_heads/item.attention.n_heads_in_group",
        "ffn.impl": "'no_op' if item.ffn.no_op else "
        "'linear' if item.ffn.replace_with_linear else 'mlp'",
        "ffn.intermediate_size": "None if item.ffn.no_op or item.ffn.replace_with_linear else "
        "round_up(floor(quotient(2*item.ffn.ffn_mult*hidden_size, 3)), 256)",
    },
    reads={
        "attention.n_heads_in_group": "count",
        "attention.no_op": "flag",
        "attention.replace_with_linear": "flag",
        "ffn.ffn_mult": "number",
        "ffn.no_op": "flag",
        "ffn.replace_with_linear": "flag",
    },
    neutral={
        "attention.num_sink_tokens": (None,),
        "attention.sparsify": (None,),
        "attention.unshifted_sink": (None, False),
        "attention.use_prefill_window_in_sink_attention": (None, False),
        "attention.window_length": (None,),
        "ffn.sparsify": (None,),
    },
)

_KV_HEADS_LIST = Each(
    "layer_configs",
    "num_key_value_heads_per_layer",
    values={
        "attention.impl": "'attention'",
        # Twice, so that a number that does not divide the heads is an error.
        "attention.num_key_value_heads": "num_attention_heads/(num_attention_heads/item)",
        "ffn.impl": "'mlp'",
        "ffn.intermediate_size": "None",
    },
    reads={"": "count"},
)

_CONFIG = (
    Copy("vocab_size", "count"),
    Copy("hidden_size", "count"),
    Copy("num_hidden_layers", "count"),
    Copy("num_attention_heads", "count"),
    Copy("num_key_value_heads", "count", default=Formula("num_attention_heads")),
    Copy("intermediate_size", "count", default=Formula("4*hidden_size")),
    Copy("head_size", "count", ("head_dim",), default=Formula("hidden_size/num_attention_heads")),
    Copy("norm_epsilon", "number", ("rms_norm_eps",), default=1e-6),
    Copy("max_position_embeddings", "count", default=2048),
    Copy("hidden_act", "text", default="silu", allowed=("silu",), aliases={"swish": "silu"}),
    Rope("rotary_base", "rotary_scaling", default_base=10000.0, types=ROPE_TYPES),
    Copy("tie_word_embeddings", "flag", default=False, written=False),
    _BLOCKS,
    _KV_HEADS_LIST,
    Require(
        "layer_configs != None",
        "there is neither `block_configs` nor `num_key_value_heads_per_layer`",
    ),
    Divides("2", "head_size"),
    Neutral("attention_bias", (False,), "the class's attention has no biases"),
    Neutral("mlp_bias", (False,), "the class's MLPs have no biases"),
    Neutral("model_type", ("deci", "nemotron-nas"), "the types of its class"),
    *REMOTE_CODE_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"
_IMPL = "layer_configs[layer].attention.impl"
_FFN = "layer_configs[layer].ffn"
_IS_ATTENTION = f"{_IMPL} == 'attention'"
_IS_MLP = f"{_FFN}.impl == 'mlp'"
_MLP_SIZE = f"(intermediate_size if {_FFN}.intermediate_size == None else {_FFN}.intermediate_size)"
_HEADS = "layer_configs[layer].attention.num_key_value_heads"
_KEYS = Shard(0, _HEADS, replicate=True)
_KV_SHAPE = (f"{_HEADS}*head_size", "hidden_size")
_Q_SIZE = "num_attention_heads*head_size"

_WEIGHT_MAP = (
    Make(
        "transformer.vocab_embedding.weight",
        (Part("model.embed_tokens.weight", ("vocab_size", "hidden_size")),),
        on="first",
    ),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm", when=f"{_IMPL} != 'no_op'"),
    Make(
        f"{LAYER}.attention.qkv.weight",
        (
            Part(f"{_ATTENTION}.q_proj.weight", (_Q_SIZE, "hidden_size"), (QUERIES,)),
            Part(f"{_ATTENTION}.k_proj.weight", _KV_SHAPE, (_KEYS,)),
            Part(f"{_ATTENTION}.v_proj.weight", _KV_SHAPE, (_KEYS,)),
        ),
        when=_IS_ATTENTION,
    ),
    *row_linear(
        f"{_ATTENTION}.o_proj",
        f"{LAYER}.attention.dense",
        columns=_Q_SIZE,
        unit="num_attention_heads",
        when=_IS_ATTENTION,
    ),
    *column_linear(
        f"{_ATTENTION}.linear_attn",
        f"{LAYER}.attention",
        rows="hidden_size",
        when=f"{_IMPL} == 'linear'",
    ),
    *norm(
        f"{_SOURCE}.post_attention_layernorm",
        f"{LAYER}.post_layernorm",
        when=f"{_FFN}.impl != 'no_op'",
    ),
    # A gated MLP's `fc` is what goes through the activation: the source's gate_proj.
    *column_linear(f"{_SOURCE}.mlp.gate_proj", f"{LAYER}.ffn.fc", rows=_MLP_SIZE, when=_IS_MLP),
    *column_linear(f"{_SOURCE}.mlp.up_proj", f"{LAYER}.ffn.gate", rows=_MLP_SIZE, when=_IS_MLP),
    *row_linear(f"{_SOURCE}.mlp.down_proj", f"{LAYER}.ffn.proj", columns=_MLP_SIZE, when=_IS_MLP),
    *column_linear(
        f"{_SOURCE}.mlp.linear_mlp",
        f"{LAYER}.ffn",
        rows="hidden_size",
        when=f"{_FFN}.impl == 'linear'",
    ),
    *norm("model.norm", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
    *rotary_buffer(_ATTENTION),
)

FAMILY = Family(
    name="deci",
    architectures=("DeciLMForCausalLM",),
    model_class=DECI,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
