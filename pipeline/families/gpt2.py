"""GPT-2, DistilGPT-2, DialoGPT and others of their class, and SantaCoder, its multi-query form.

Read: transformers 4.57 and 5.23 (`configuration_gpt2.py`, `modeling_gpt2.py`,
`pytorch_utils.py`, Conv1D: weights are [inputs, outputs]); TensorRT-LLM 0.17
(`models/gpt/config.py`, `models/gpt/convert.py`, `models/gpt/model.py`).

Differences from TensorRT-LLM's converter, with the reasons:
- A head of its own is converted where the model is not tied; the converter takes the embedding.
- Attention that is not scaled, or scaled by its layer, is refused: the converter ignores the keys.
"""

from __future__ import annotations

from pipeline.model_classes.gpt import GPT
from pipeline.weights.config_rules import Constant, Copy, Divides, Formula, Inert, Neutral
from pipeline.weights.decoder_rules import (
    KEYS,
    LAYER,
    Q_SIZE,
    QUERIES,
    column_linear,
    embedding,
    fused_qkv,
    head,
    norm,
    row_linear,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import GENERAL_KEYS
from pipeline.weights.layer_rules import attention_dense, position_embedding
from pipeline.weights.rules import Drop, Make, Part, Pick

_GPT2 = "GPT2LMHeadModel"
_SANTACODER = "GPT2LMHeadCustomModel"
_IS_GPT2 = f"architecture == '{_GPT2}'"
_IS_SANTACODER = f"architecture == '{_SANTACODER}'"

_CONFIG = (
    Copy("vocab_size", "count"),
    Copy("hidden_size", "count", ("n_embd",)),
    Copy("num_hidden_layers", "count", ("n_layer",)),
    Copy("num_attention_heads", "count", ("n_head",)),
    Copy("intermediate_size", "count", ("n_inner",), default=Formula("4*hidden_size")),
    Copy("max_position_embeddings", "count", ("n_positions",), default=1024),
    Copy("norm_epsilon", "number", ("layer_norm_epsilon",), default=1e-5),
    Copy(
        "hidden_act",
        "text",
        ("activation_function",),
        default="gelu_new",
        allowed=("gelu_new", "gelu", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "tanh"),
        aliases={"swish": "silu"},
    ),
    Copy("tie_word_embeddings", "flag", default=True, written=False),
    Constant("gpt_variant", "gpt2", only=(_GPT2,)),
    Constant("gpt_variant", "santacoder", only=(_SANTACODER,)),
    Constant("num_key_value_heads", 1, only=(_SANTACODER,)),
    Neutral("attention_head_type", ("multiquery",), "one K/V head", only=(_SANTACODER,)),
    Inert(("auto_map",), "its own code, which is never executed", only=(_SANTACODER,)),
    Divides("num_attention_heads", "hidden_size"),
    Neutral("model_type", ("gpt2",), "the type of its class"),
    Inert(("n_ctx",), "an old name of `n_positions`, which transformers no longer reads"),
    Neutral("scale_attn_weights", (None, True), "the target's class always scales"),
    Neutral("scale_attn_by_inverse_layer_idx", (None, False), "all layers are scaled alike"),
    Inert(("reorder_and_upcast_attn",), "in which precision attention is computed"),
    Inert(
        (
            *("summary_activation", "summary_first_dropout", "summary_proj_to_labels"),
            *("summary_type", "summary_use_proj"),
        ),
        "other tasks than generating text",
    ),
    Inert(
        ("attn_pdrop", "embd_pdrop", "resid_pdrop", "gradient_checkpointing"), "how it was trained"
    ),
    *GENERAL_KEYS,
)

_SOURCE = "transformer.h.{layer}"


def _multi_query(kind: str, *inputs: str) -> tuple[Make, ...]:
    """Queries of one linear; the key and the value head of another."""
    turned = kind == "weight"
    heads = (
        Pick(len(inputs), "1", "0", "head_size"),
        Pick(len(inputs), "1", "head_size", "2*head_size"),
    )
    parts = (
        Part(f"{_SOURCE}.attn.q_attn.{kind}", (*inputs, Q_SIZE), (QUERIES,), transposed=turned),
        *(
            Part(f"{_SOURCE}.attn.kv_attn.{kind}", (*inputs, "2*head_size"), (KEYS,), head, turned)
            for head in heads
        ),
    )
    return (Make(f"{LAYER}.attention.qkv.{kind}", parts, when=_IS_SANTACODER),)


_WEIGHT_MAP = (
    *embedding("transformer.wte.weight"),
    *position_embedding("transformer.wpe.weight"),
    *norm(f"{_SOURCE}.ln_1", f"{LAYER}.input_layernorm", bias="True"),
    *fused_qkv(f"{_SOURCE}.attn.c_attn", bias="True", transposed=True, when=_IS_GPT2),
    *_multi_query("weight", "hidden_size"),
    *_multi_query("bias"),
    *attention_dense(f"{_SOURCE}.attn.c_proj", bias="True", transposed=True),
    *norm(f"{_SOURCE}.ln_2", f"{LAYER}.post_layernorm", bias="True"),
    *column_linear(f"{_SOURCE}.mlp.c_fc", f"{LAYER}.mlp.fc", bias="True", transposed=True),
    *row_linear(f"{_SOURCE}.mlp.c_proj", f"{LAYER}.mlp.proj", bias="True", transposed=True),
    *norm("transformer.ln_f", "transformer.ln_f", bias="True", on="last"),
    *head("lm_head.weight", "transformer.wte.weight"),
    Drop(f"{_SOURCE}.attn.bias", "a buffer of old checkpoints: the causal mask"),
    Drop(f"{_SOURCE}.attn.masked_bias", "a buffer of old checkpoints: a value for masked scores"),
)

FAMILY = Family(
    name="gpt2",
    architectures=(_GPT2, _SANTACODER),
    model_class=GPT,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
    optional_prefix="transformer.",
)
