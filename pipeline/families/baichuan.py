"""Baichuan 7B and 13B, Baichuan2 7B and 13B.

Read: `configuration_baichuan.py` and `modeling_baichuan.py` of these models; TensorRT-LLM 0.17 and
1.x (`models/baichuan/config.py`, `convert.py`, `model.py`).

No key names the version, which decides positions (7B rotary, 13B alibi) and whether rows of the
head are divided by their norm (Baichuan2). TensorRT-LLM's converter guesses it from 32 heads and a
vocabulary of 64000; a model with added tokens it takes for a Baichuan2. Here the keys of each
version's config class say it: only a 7B has `max_position_embeddings`; the first 7B is
`BaiChuanForCausalLM`; a 13B is a Baichuan2 where it has `z_loss_weight`, or the 125696 tokens of
one. Where 64000 or 125696 tokens contradict that, the model is refused.

Further differences from TensorRT-LLM's converter:
- It divides the rows of a Baichuan2 head in the checkpoint's dtype; here in float32, cast after.
- It converts for several pp ranks, on which the class does not run.
"""

from __future__ import annotations

from pipeline.model_classes.baichuan import BAICHUAN
from pipeline.weights.config_rules import Computed, Copy, Divides, Formula, Inert, Neutral, Require
from pipeline.weights.decoder_rules import (
    LAYER,
    embedding,
    fused_qkv,
    norm,
    row_linear,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import REMOTE_CODE_KEYS, SIZES
from pipeline.weights.layer_rules import gated_mlp, rotary_buffer
from pipeline.weights.rules import Make, Part, Shard, UnitRows

_FIRST_7B = "BaiChuanForCausalLM"
_OTHERS = "BaichuanForCausalLM"
_SECOND_13B = "vocab_size == 125696 or not (z_loss_weight == None)"

_VERSION = (
    Copy("position_count", "count", ("max_position_embeddings",), default=None, written=False),
    Copy("model_max_length", "count", default=Formula("position_count"), written=False),
    Copy("z_loss_weight", "real", default=None, written=False),
    Computed("is_7b", "True", written=False, only=(_FIRST_7B,)),
    Computed("is_7b", "not (position_count == None)", written=False, only=(_OTHERS,)),
    Computed("is_second", "False", written=False, only=(_FIRST_7B,)),
    Computed("is_second", f"is_7b or {_SECOND_13B}", written=False, only=(_OTHERS,)),
    Require(
        "not (position_count == None) or (not is_7b and not (model_max_length == None))",
        "`max_position_embeddings` (7B) or `model_max_length` (13B) is missing",
    ),
    Require(
        "not (vocab_size == 64000 and is_second) and not (vocab_size == 125696 and not is_second)",
        "its vocabulary is that of another version of Baichuan than its other keys are of",
    ),
    Computed(
        "model_version",
        "('v2_7b' if is_second else 'v1_7b') if is_7b else ('v2_13b' if is_second else 'v1_13b')",
    ),
    Computed("max_position_embeddings", "position_count if is_7b else model_max_length"),
    Computed("position_embedding_type", "'rope_gpt_neox' if is_7b else 'alibi'"),
)

_CONFIG = (
    *SIZES,
    *_VERSION,
    Copy("hidden_act", "text", default="silu", allowed=("silu",), aliases={"swish": "silu"}),
    Copy("norm_epsilon", "number", ("rms_norm_eps",), default=1e-6),
    Divides("num_attention_heads", "hidden_size"),
    Neutral("model_type", ("baichuan",), "the type of its class"),
    Neutral("tie_word_embeddings", (None, False), "the head is a tensor of its own"),
    Neutral("rope_theta", (None, 10000, 10000.0), "the target's rotary base"),
    Neutral("rope_scaling", (None,), "the target's positions are not scaled"),
    Inert(("_from_model_config", "gradient_checkpointing"), "how it was trained"),
    *REMOTE_CODE_KEYS,
)

_SOURCE = "model.layers.{layer}"
_HEAD = "lm_head.weight"
_HEAD_SHAPE = ("vocab_size", "hidden_size")
_HEAD_ROWS = (Shard(0, "vocab_size", pad=True),)

_WEIGHT_MAP = (
    *embedding("model.embed_tokens.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm"),
    *fused_qkv(f"{_SOURCE}.self_attn.W_pack"),
    *row_linear(
        f"{_SOURCE}.self_attn.o_proj",
        f"{LAYER}.attention.dense",
        columns="hidden_size",
        unit="num_attention_heads",
    ),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_layernorm"),
    # As in Llama: `fc` is the gate of the source, `gate` its up projection.
    *gated_mlp(f"{_SOURCE}.mlp"),
    *norm("model.norm", "transformer.ln_f", on="last"),
    Make(_HEAD, (Part(_HEAD, _HEAD_SHAPE, _HEAD_ROWS),), on="last", when="not is_second"),
    # Baichuan2 does so whenever the head is used (`NormHead`).
    Make(
        _HEAD,
        (Part(_HEAD, _HEAD_SHAPE, _HEAD_ROWS, change=UnitRows()),),
        on="last",
        when="is_second",
    ),
    *rotary_buffer(f"{_SOURCE}.self_attn"),
)

FAMILY = Family(
    name="baichuan",
    architectures=(_OTHERS, _FIRST_7B),
    model_class=BAICHUAN,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
    writes_architecture=_OTHERS,
)
