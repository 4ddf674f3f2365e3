"""Phi-3-small, with 8k and 128k positions, which exists as Python code of its own only.

Read: the config.json files and tensor names as published, TensorRT-LLM 1.x
(`models/phi3/config.py`, `models/phi3/convert.py`, `models/phi3/split_weights.py`,
`models/phi3/model.py`, `functional.py`, `models/modeling_utils.py`).

`query_key_value` has one group per K/V head: its query heads, then its key and value head.
`up_proj` has rows in pairs, of a gate and a linear value; `gegelu` reads such pairs too, so that
they stay together and in place.

Differences from TensorRT-LLM's converter: a head that the ranks do not divide is padded; a scale
of attention other than 1 / head_size and scaled positions, which the class ignores, are refused.
The model's own code also masks the logits of token ids that have no text; TensorRT-LLM cannot.
"""

from __future__ import annotations

from pipeline.model_classes.phi3 import PHI3_SMALL
from pipeline.weights.config_rules import (
    Computed,
    Copy,
    Divides,
    Inert,
    Neutral,
    Require,
    Rope,
    RopeType,
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
from pipeline.weights.general_keys import GENERAL_KEYS
from pipeline.weights.layer_rules import attention_dense
from pipeline.weights.rules import Shard

_LENGTH = "original_max_position_embeddings"
_FACTORS = ("short_factor", "long_factor")
_LONG_ROPE = RopeType((*_FACTORS, "short_mscale", "long_mscale"), (_LENGTH,), lists=_FACTORS)

_CONFIG = (
    Copy("vocab_size", "count"),
    Copy("hidden_size", "count"),
    Copy("num_hidden_layers", "count"),
    Copy("num_attention_heads", "count"),
    Copy("num_key_value_heads", "count"),
    Copy("intermediate_size", "count", ("ff_intermediate_size",)),
    Copy("max_position_embeddings", "count"),
    Copy("norm_epsilon", "number", ("layer_norm_epsilon",)),
    Copy("hidden_act", "text", allowed=("gegelu",)),
    Copy("gegelu_limit", "number"),
    Copy("mup_attn_multiplier", "number", allowed=(1.0,)),
    Copy("mup_embedding_multiplier", "number"),
    Copy("mup_use_scaling", "flag", allowed=(True,)),
    Copy("mup_width_multiplier", "number"),
    Copy("blocksparse_block_size", "count"),
    Copy("blocksparse_homo_head_pattern", "flag"),
    Copy("blocksparse_num_local_blocks", "count"),
    Copy("blocksparse_vertical_stride", "count", ("blocksparse_vert_stride",)),
    Copy("dense_attention_every_n_layers", "count"),
    Copy("tie_word_embeddings", "flag", default=True),
    Copy("original_length", "count", (_LENGTH,), default=None, written=False),
    Rope(
        "rotary_base",
        "long_rope",
        default_base=1000000.0,
        types={"su": _LONG_ROPE, "longrope": _LONG_ROPE},
        base_keys=("rope_embedding_base",),
        written=False,
    ),
    Computed(_LENGTH, "original_length", when="long_rope"),
    Computed("longrope_scaling_short_factors", "long_rope['short_factor']", when="long_rope"),
    Computed("longrope_scaling_long_factors", "long_rope['long_factor']", when="long_rope"),
    Computed("longrope_short_mscale", "long_rope['short_mscale']", when="long_rope"),
    Computed("longrope_long_mscale", "long_rope['long_mscale']", when="long_rope"),
    Computed("position_embedding_type", "'long_rope' if long_rope else 'rope_gpt_neox'"),
    Require("original_length or not long_rope", f"long rope needs `{_LENGTH}`"),
    Require(
        f"(not long_rope) or (not ('{_LENGTH}' in long_rope))"
        f" or long_rope['{_LENGTH}'] == original_length",
        f"the two `{_LENGTH}` disagree",
    ),
    *(
        Require(
            f"(not long_rope) or 2*len(long_rope['{name}']) == head_size",
            f"`{name}` has not one number for every two values of a head",
        )
        for name in _FACTORS
    ),
    Divides("num_attention_heads", "hidden_size"),
    Divides("num_key_value_heads", "num_attention_heads"),
    Neutral("model_type", ("phi3small",), "the type of its class"),
    Neutral("ff_dim_multiplier", (None,), "the size of the MLP is given in `ff_intermediate_size`"),
    Neutral("rope_position_scale", (None, 1, 1.0), "positions are not scaled"),
    Neutral("attention_bias", (None, False), "the biases of attention are there whatever it says"),
    Neutral("reorder_and_upcast_attn", (None, False), "how attention is computed"),
    Inert(("auto_map",), "the architecture's own class, known by its name"),
    Inert(("gegelu_pad_to_256",), "the size of the MLP is given in `ff_intermediate_size`"),
    Inert(
        ("blocksparse_triton_kernel_block_size", "pad_sequence_to_multiple_of_64"),
        "how its own code runs",
    ),
    Inert(
        ("attention_dropout_prob", "embedding_dropout_prob", "ffn_dropout_prob"),
        "how it was trained",
    ),
    *GENERAL_KEYS,
)

_SOURCE = "model.layers.{layer}"

_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm", bias="True"),
    *fused_qkv(f"{_SOURCE}.self_attn.query_key_value", groups="num_key_value_heads", bias="True"),
    *attention_dense(f"{_SOURCE}.self_attn.dense", bias="True"),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm", bias="True"),
    *column_linear(
        f"{_SOURCE}.mlp.up_proj",
        f"{LAYER}.mlp.fc",
        rows="2*intermediate_size",
        bias="True",
        shard=Shard(0, "intermediate_size"),
    ),
    *row_linear(f"{_SOURCE}.mlp.down_proj", f"{LAYER}.mlp.proj", bias="True"),
    *norm("model.final_layernorm", "transformer.ln_f", bias="True", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
)

FAMILY = Family(
    name="phi3small",
    architectures=("Phi3SmallForCausalLM",),
    model_class=PHI3_SMALL,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
