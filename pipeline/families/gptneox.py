"""GPT-NeoX-20B, Pythia, Dolly-v2 and others of their class.

Read: transformers 4.57 and 5.23 (`configuration_gpt_neox.py`, `modeling_gpt_neox.py`);
TensorRT-LLM 0.17 (`models/gptneox/model.py`, `layers/attention.py`, the converter in its examples
for gptneox).

`query_key_value` has one group per head: its query, its key, its value.

Differences from TensorRT-LLM's converter, with the reasons:
- `rotary_base` is written beside `rotary_emb_base`: without it attention turns by the base 10000.
- A head that the ranks do not divide is padded with zeros; the converter cuts it unevenly.
- Layers one after the other (`use_parallel_residual` false), another epsilon or MLP width, a rope
  scaling and attention without biases are refused: the class cannot compute them.
"""

from __future__ import annotations

from pipeline.model_classes.gptneox import GPTNEOX
from pipeline.weights.config_rules import (
    Computed,
    Copy,
    Divides,
    Formula,
    Inert,
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
from pipeline.weights.general_keys import GENERAL_KEYS
from pipeline.weights.layer_rules import attention_dense, rotary_buffer
from pipeline.weights.rules import Drop

_CONFIG = (
    Copy("vocab_size", "count"),
    Copy("hidden_size", "count"),
    Copy("num_hidden_layers", "count"),
    Copy("num_attention_heads", "count"),
    Copy("intermediate_size", "count", default=Formula("4*hidden_size")),
    Copy("max_position_embeddings", "count", default=2048),
    Copy("norm_epsilon", "number", ("layer_norm_eps",), default=1e-5, allowed=(1e-5,)),
    Copy(
        "hidden_act",
        "text",
        default="gelu",
        allowed=("gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "relu"),
    ),
    Copy("tie_word_embeddings", "flag", default=False, written=False),
    Rope(
        "rotary_base",
        None,
        default_base=10000.0,
        types={},
        fraction="rotary_pct",
        default_fraction=0.25,
        base_keys=("rotary_emb_base", "rope_theta"),
        fraction_keys=("rotary_pct", "partial_rotary_factor"),
    ),
    Computed("rotary_emb_base", "rotary_base"),
    Require(
        "intermediate_size == 4*hidden_size",
        "`intermediate_size` is not 4 * hidden_size, which the target's class takes for granted",
    ),
    Divides("num_attention_heads", "hidden_size"),
    Divides("2", "floor(head_size*rotary_pct)"),
    Neutral("model_type", ("gpt_neox",), "the type of its class"),
    Neutral(
        "use_parallel_residual",
        (None, True),
        "the target's class computes attention and MLP side by side",
    ),
    Neutral("attention_bias", (None, True), "the target's class has biases"),
    Inert(("custom_pipelines",), "how its own code prompts it"),
    Inert(
        ("attention_probs_dropout_prob", "hidden_dropout", "classifier_dropout"),
        "how it was trained",
    ),
    *GENERAL_KEYS,
)

_SOURCE = "gpt_neox.layers.{layer}"

_WEIGHT_MAP = (
    *embedding("gpt_neox.embed_in.weight"),
    *norm(f"{_SOURCE}.input_layernorm", f"{LAYER}.input_layernorm", bias="True"),
    *norm(f"{_SOURCE}.post_attention_layernorm", f"{LAYER}.post_attention_layernorm", bias="True"),
    *fused_qkv(f"{_SOURCE}.attention.query_key_value", groups="num_attention_heads", bias="True"),
    *attention_dense(f"{_SOURCE}.attention.dense", bias="True"),
    *column_linear(f"{_SOURCE}.mlp.dense_h_to_4h", f"{LAYER}.mlp.fc", bias="True"),
    *row_linear(f"{_SOURCE}.mlp.dense_4h_to_h", f"{LAYER}.mlp.proj", bias="True"),
    *norm("gpt_neox.final_layer_norm", "transformer.ln_f", bias="True", on="last"),
    *head("embed_out.weight", "gpt_neox.embed_in.weight"),
    Drop(f"{_SOURCE}.attention.bias", "a buffer of old checkpoints: the causal mask"),
    Drop(f"{_SOURCE}.attention.masked_bias", "a buffer of old checkpoints: a value for the mask"),
    *rotary_buffer(f"{_SOURCE}.attention"),
)

FAMILY = Family(
    name="gptneox",
    architectures=("GPTNeoXForCausalLM",),
    model_class=GPTNEOX,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
)
