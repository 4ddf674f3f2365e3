"""MPT 7B and 30B, as transformers has them and as llm-foundry does.

Read: transformers 4.57 and 5.23 (`configuration_mpt.py`, `modeling_mpt.py`); llm-foundry's
`configuration_mpt.py`, `modeling_mpt.py` and `attention.py` of the published models; TensorRT-LLM
0.17 and 1.x (`examples/mpt/convert_checkpoint.py`, `models/mpt/model.py`).

Differences from TensorRT-LLM's converter:
- It takes `kv_n_heads` for the K/V heads whatever `attn_type` says, and so as many as query heads
  for `multiquery_attention`, which has one.
- It passes over what the class cannot compute: no alibi, biases, `qk_ln`, `softmax_scale`,
  `prefix_lm`, another `expansion_ratio`, norm or `logit_scale`. Such models are refused.
- It takes the embedding as the head even where the config does not tie them.
- It leaves `max_position_embeddings` out; here it is `max_seq_len`.
- It writes `MptForCausalLM` where the source says so, a name that 0.17 does not have for the class.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.model_classes.mpt import MPT
from pipeline.weights.config_rules import (
    Computed,
    ConfigRule,
    Copy,
    Divides,
    Inert,
    Neutral,
    Require,
    Unfold,
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
from pipeline.weights.general_keys import GENERAL_KEYS, REMOTE_CODE_KEYS

_ATTENTION_KEYS: tuple[ConfigRule, ...] = (
    Unfold("attn_config"),
    Copy("clip_qkv", "number", ("attn_config.clip_qkv",), default=None),
    Copy("alibi_bias_max", "count", ("attn_config.alibi_bias_max",), default=8),
    Copy("alibi", "flag", ("attn_config.alibi",), allowed=(True,), written=False),
    Copy(
        "attn_type",
        "text",
        ("attn_config.attn_type",),
        default="multihead_attention",
        allowed=("multihead_attention", "multiquery_attention", "grouped_query_attention"),
        written=False,
    ),
    Copy("kv_n_heads", "count", ("attn_config.kv_n_heads",), default=None, written=False),
    Neutral("attn_config.qk_ln", (None, False), "the target has no norms of queries and keys"),
    Neutral("attn_config.qk_gn", (None, False), "the target has no norms of queries and keys"),
    Neutral("attn_config.softmax_scale", (None,), "the target scales by the size of a head"),
    Neutral("attn_config.prefix_lm", (None, False), "the target attends to the past only"),
    Neutral("attn_config.rope", (None, False), "positions are alibi"),
    Neutral("attn_config.sliding_window_size", (None, -1), "the target attends to all tokens"),
    Inert(
        ("attn_config.attn_impl", "attn_config.attn_uses_sequence_id", "attn_config.attn_pdrop"),
        "how it was trained",
    ),
    Inert(
        (
            *("attn_config.rope_impl", "attn_config.rope_theta"),
            *("attn_config.rope_dail_config", "attn_config.rope_hf_config"),
        ),
        "of positions that it does not have",
    ),
    # transformers writes its general keys into this object too.
    *(
        Inert(tuple(f"attn_config.{key}" for key in rule.sources), rule.because)
        for rule in GENERAL_KEYS
        if isinstance(rule, Inert)
    ),
    *(
        replace(rule, source=f"attn_config.{rule.source}")
        for rule in GENERAL_KEYS
        if isinstance(rule, Neutral)
    ),
    Inert(
        (
            *("attn_config.model_type", "attn_config.architectures", "attn_config.dtype"),
            *("attn_config.torch_dtype", "attn_config.tie_word_embeddings"),
        ),
        "a part of a model has none",
    ),
)

_CONFIG = (
    *_ATTENTION_KEYS,
    Copy("vocab_size", "count"),
    Copy("hidden_size", "count", ("d_model",)),
    Copy("num_hidden_layers", "count", ("n_layers",)),
    Copy("num_attention_heads", "count", ("n_heads",)),
    Copy("max_position_embeddings", "count", ("max_seq_len",)),
    Copy("no_bias", "flag", allowed=(True,), written=False),
    Copy("tie_word_embeddings", "flag", default=True, written=False),
    Divides("num_attention_heads", "hidden_size"),
    Require(
        "attn_type in ('multihead_attention', 'multiquery_attention') or not (kv_n_heads == None)",
        "`attn_config.kv_n_heads` is missing",
    ),
    Computed(
        "num_key_value_heads",
        "1 if attn_type == 'multiquery_attention' else"
        " kv_n_heads if attn_type == 'grouped_query_attention' else num_attention_heads",
    ),
    Require(
        "kv_n_heads == None or kv_n_heads == num_key_value_heads",
        "`attn_config.kv_n_heads` is not what `attn_config.attn_type` says",
    ),
    Divides("num_key_value_heads", "num_attention_heads"),
    Neutral("model_type", ("mpt",), "the type of its class"),
    Neutral("expansion_ratio", (None, 4), "the target's MLP is four times as wide as the model"),
    Neutral("layer_norm_epsilon", (None, 1e-5), "the target's last norm has this epsilon"),
    Neutral("norm_eps", (None, 1e-5), "the target's last norm has this epsilon"),
    Neutral(
        "norm_type",
        (None, "low_precision_layernorm", "layernorm"),
        "the target's norms take the mean away",
    ),
    Neutral("logit_scale", (None,), "the target does not scale logits"),
    Unfold("ffn_config"),
    Neutral("ffn_config.ffn_type", (None, "mptmlp"), "another MLP"),
    Neutral("ffn_config.ffn_act_fn", (None, {"name": "gelu"}), "the target's activation is gelu"),
    Inert(("ffn_config.fc_type", "fc_type"), "how it was trained"),
    Inert(
        ("learned_pos_emb",),
        "llm-foundry switches it off with alibi; transformers does not read it",
    ),
    Inert(
        (
            *("embedding_fraction", "emb_pdrop", "resid_pdrop", "init_config", "init_device"),
            *("use_pad_tok_in_ffn", "verbose", "tokenizer_name"),
        ),
        "how it was trained",
    ),
    *REMOTE_CODE_KEYS,
)

_SOURCE = "transformer.blocks.{layer}"
_EMBEDDING = "transformer.wte.weight"

_WEIGHT_MAP = (
    *embedding(_EMBEDDING),
    *norm(f"{_SOURCE}.norm_1", f"{LAYER}.input_layernorm"),
    *fused_qkv(f"{_SOURCE}.attn.Wqkv"),
    *row_linear(
        f"{_SOURCE}.attn.out_proj",
        f"{LAYER}.attention.dense",
        columns="hidden_size",
        unit="num_attention_heads",
    ),
    *norm(f"{_SOURCE}.norm_2", f"{LAYER}.post_layernorm"),
    *column_linear(f"{_SOURCE}.ffn.up_proj", f"{LAYER}.mlp.fc"),
    *row_linear(f"{_SOURCE}.ffn.down_proj", f"{LAYER}.mlp.proj"),
    *norm("transformer.norm_f", "transformer.ln_f", on="last"),
    *head("lm_head.weight", _EMBEDDING),
)

FAMILY = Family(
    name="mpt",
    architectures=("MPTForCausalLM", "MptForCausalLM"),
    model_class=MPT,
    aliases=("MptForCausalLM",),
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
    writes_architecture="MPTForCausalLM",
    optional_prefix="transformer.",
)
