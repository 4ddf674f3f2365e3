"""Phi-3, Phi-3.5 and Phi-4, the text models of mini and medium size.

Read: transformers 4.57 and 5.23 (`configuration_phi3.py`, `modeling_phi3.py`,
`modeling_rope_utils.py`), the config.json files as published; TensorRT-LLM 1.x
(`models/phi3/config.py`, `models/phi3/convert.py`, `models/phi3/model.py`,
`functional.py`).

Differences from TensorRT-LLM's converter, with the reasons:
- With tp_size over 1 it either writes whole matrices (up to 0.17), which the class cannot load, or
  (1.x) cuts `mlp.fc` as if it were one matrix, so that the first ranks get the up projection alone
  and the last the gate. Each rank multiplies its two halves: here each half is shared by itself.
- It takes long rope for granted from `max_position_embeddings` 128000 on; here the rope type says
  so. A `factor` or `attention_factor` of long rope is refused: the class works out its own.
"""

from __future__ import annotations

from pipeline.model_classes.phi3 import PHI3
from pipeline.weights.config_rules import (
    Computed,
    Copy,
    Divides,
    Formula,
    Inert,
    Neutral,
    Require,
    Rope,
    RopeType,
    Window,
)
from pipeline.weights.decoder_rules import (
    LAYER,
    embedding,
    fused_qkv,
    head,
    norm,
    row_linear,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import GENERAL_KEYS, SIZES
from pipeline.weights.layer_rules import attention_dense
from pipeline.weights.rules import Make, Part, Pick, Shard

_CODE = {
    "AutoConfig": "configuration_phi3.Phi3Config",
    "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
}
_LENGTH = "original_max_position_embeddings"
_FACTORS = ("short_factor", "long_factor")
_LONG_ROPE = RopeType(_FACTORS, (_LENGTH,), lists=_FACTORS)

_CONFIG = (
    *SIZES,
    Copy("hidden_act", "text", default="swiglu", allowed=("swiglu",), aliases={"silu": "swiglu"}),
    Copy("norm_epsilon", "number", ("rms_norm_eps",), default=1e-5),
    Copy("max_position_embeddings", "count", default=4096),
    Copy("num_key_value_heads", "count", default=Formula("num_attention_heads")),
    Copy("tie_word_embeddings", "flag", default=False),
    Copy("original_length", "count", (_LENGTH,), default=4096, written=False),
    Rope(
        "rotary_base",
        "long_rope",
        default_base=10000.0,
        types={"longrope": _LONG_ROPE, "su": _LONG_ROPE},
        fraction="rotary_pct",
        written=False,
    ),
    Computed(_LENGTH, "original_length", when="long_rope"),
    Computed("longrope_scaling_short_factors", "long_rope['short_factor']", when="long_rope"),
    Computed("longrope_scaling_long_factors", "long_rope['long_factor']", when="long_rope"),
    Computed("position_embedding_type", "'long_rope' if long_rope else 'rope_gpt_neox'"),
    Require(
        f"(not long_rope) or (not ('{_LENGTH}' in long_rope))"
        f" or long_rope['{_LENGTH}'] == original_length",
        f"the two `{_LENGTH}` disagree",
    ),
    *(
        Require(
            f"(not long_rope) or 2*len(long_rope['{name}']) == floor(head_size*rotary_pct)",
            f"`{name}` has not one number for every two values of the rotated part of a head",
        )
        for name in _FACTORS
    ),
    Divides("num_attention_heads", "hidden_size"),
    Divides("num_key_value_heads", "num_attention_heads"),
    Divides("2", "floor(head_size*rotary_pct)"),
    Window("sliding_window", default=None),
    Neutral("model_type", ("phi3",), "the type of its class"),
    Neutral(
        "auto_map",
        (None, _CODE, {**_CODE, "AutoTokenizer": "Xenova/gpt-4o"}),
        "code that computes what transformers computes natively",
    ),
    Neutral("attention_bias", (None, False), "no variant has biases"),
    Neutral("mlp_bias", (None, False), "no variant has biases"),
    Neutral("lm_head_bias", (None, False), "no variant has biases"),
    Neutral("full_attn_mod", (None, 1), "every layer attends alike"),
    Neutral("interpolate_factor", (None, 1), "positions are not interpolated"),
    Inert(("embd_pdrop", "resid_pdrop"), "how it was trained"),
    *GENERAL_KEYS,
)

_SOURCE = "model.layers.{layer}"
_ROWS = "2*intermediate_size"


def _half(start: str, stop: str) -> Part:
    """Half of the fused gate and up projection."""
    return Part(
        f"{_SOURCE}.mlp.gate_up_proj.weight",
        (_ROWS, "hidden_size"),
        (Shard(0, "intermediate_size"),),
        Pick(0, "1", start, stop),
    )


_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm"),
    *fused_qkv(f"{_SOURCE}.self_attn.qkv_proj"),
    *attention_dense(f"{_SOURCE}.self_attn.o_proj"),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm"),
    # transformers has the gate first, TensorRT-LLM's `swiglu` applies it to the second half.
    Make(
        f"{LAYER}.mlp.fc.weight",
        (_half("intermediate_size", _ROWS), _half("0", "intermediate_size")),
    ),
    *row_linear(f"{_SOURCE}.mlp.down_proj", f"{LAYER}.mlp.proj"),
    *norm("model.norm", "transformer.ln_f", on="last"),
    *head("lm_head.weight", "model.embed_tokens.weight"),
)

FAMILY = Family(
    name="phi3",
    architectures=("Phi3ForCausalLM",),
    model_class=PHI3,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
