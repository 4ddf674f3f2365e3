"""OPT 125M to 66B.

Read: transformers 4.57 and 5.23 (`configuration_opt.py`, `modeling_opt.py`); TensorRT-LLM 0.17 and
1.x (`examples/opt/convert_checkpoint.py`, `models/opt/model.py`).

Differences from TensorRT-LLM's converter:
- It multiplies `project_in` and `project_out` (OPT-350M) into the embedding and the head in an
  order that depends on the machine; here each value of the product is rounded once.
- It keeps the embedding as the head even where the config does not tie them.
- It does not look at `_remove_final_layer_norm`, `enable_bias` and `layer_norm_elementwise_affine`:
  the class always has a last norm, biases, and values for its norms, so other models are refused.
"""

from __future__ import annotations

from pipeline.model_classes.opt import OPT
from pipeline.weights.config_rules import Copy, Divides, Formula, Inert, Neutral, Require
from pipeline.weights.decoder_rules import (
    LAYER,
    column_linear,
    embedding,
    head,
    norm,
    qkv,
    row_linear,
)
from pipeline.weights.family import Family
from pipeline.weights.general_keys import GENERAL_KEYS
from pipeline.weights.rules import Drop, Make, Part, Pick, Projection, Shard

_PLAIN = "word_embed_proj_dim == hidden_size"
_PROJECTED = "word_embed_proj_dim != hidden_size"

_CONFIG = (
    Copy("vocab_size", "count"),
    Copy("hidden_size", "count"),
    Copy("num_hidden_layers", "count"),
    Copy("num_attention_heads", "count"),
    Copy("intermediate_size", "count", ("ffn_dim",)),
    Copy("max_position_embeddings", "count", default=2048),
    Copy(
        "hidden_act",
        "text",
        ("activation_function",),
        default="relu",
        allowed=("relu", "gelu", "gelu_new", "gelu_pytorch_tanh"),
    ),
    Copy("do_layer_norm_before", "flag", default=True),
    Copy("word_embed_proj_dim", "count", default=Formula("hidden_size"), written=False),
    Copy("tie_word_embeddings", "flag", default=True, written=False),
    Divides("num_attention_heads", "hidden_size"),
    Require(
        f"tie_word_embeddings or {_PLAIN}",
        "`word_embed_proj_dim` is not `hidden_size`, and the head is not tied",
    ),
    Neutral("model_type", ("opt",), "the type of its class"),
    Neutral("_remove_final_layer_norm", (None, False), "the target always has the last norm"),
    Neutral("enable_bias", (None, True), "the target's linears have biases"),
    Neutral("layer_norm_elementwise_affine", (None, True), "the target's norms have values"),
    Neutral("scale_embeddings", (None, False), "the target does not scale embeddings"),
    Neutral("learned_embeddings", (None, True), "positions are learned"),
    Inert(("dropout", "activation_dropout", "layerdrop", "init_std"), "how it was trained"),
    Inert(("output_projection",), "a key of the first converter; transformers does not read it"),
    *GENERAL_KEYS,
)

_SOURCE = "model.decoder.layers.{layer}"
_ATTENTION = f"{_SOURCE}.self_attn"
_POSITIONS = "model.decoder.embed_positions.weight"
_POSITION_ROWS = "max_position_embeddings + 2"

_EMBEDDING = "model.decoder.embed_tokens.weight"
_ROWS = Shard(0, "vocab_size", pad=True, over="embedding_rows")
_NARROW = ("vocab_size", "word_embed_proj_dim")

_WEIGHT_MAP = (
    *embedding(_EMBEDDING, when=_PLAIN),
    Make(
        "transformer.vocab_embedding.weight",
        (
            Projection(
                Part(
                    _EMBEDDING, _NARROW, (Shard(0, "vocab_size", pad=True, over="embedding_rows"),)
                ),
                Part(
                    "model.decoder.project_in.weight",
                    ("hidden_size", "word_embed_proj_dim"),
                    (Shard(1, "hidden_size", over="embedding_columns"),),
                    transposed=True,
                ),
            ),
        ),
        on="first",
        when=_PROJECTED,
    ),
    # transformers counts positions from 2 (`OPTLearnedPositionalEmbedding`), the target from 0.
    Make(
        "transformer.position_embedding.weight",
        (
            Part(
                _POSITIONS,
                (_POSITION_ROWS, "hidden_size"),
                (
                    Shard(0, "max_position_embeddings", pad=True, over="embedding_rows"),
                    Shard(1, "hidden_size", over="embedding_columns"),
                ),
                Pick(0, "1", "2", _POSITION_ROWS),
            ),
        ),
        on="first",
    ),
    Drop(_POSITIONS, "positions 0 and 1 are never used", rows=("0", "2")),
    *norm(f"{_SOURCE}.self_attn_layer_norm", f"{LAYER}.input_layernorm", bias="True"),
    *qkv(f"{_ATTENTION}.q_proj", f"{_ATTENTION}.k_proj", f"{_ATTENTION}.v_proj", bias="True"),
    *row_linear(
        f"{_ATTENTION}.out_proj",
        f"{LAYER}.attention.dense",
        columns="hidden_size",
        unit="num_attention_heads",
        bias="True",
    ),
    *norm(f"{_SOURCE}.final_layer_norm", f"{LAYER}.post_layernorm", bias="True"),
    *column_linear(f"{_SOURCE}.fc1", f"{LAYER}.mlp.fc", bias="True"),
    *row_linear(f"{_SOURCE}.fc2", f"{LAYER}.mlp.proj", bias="True"),
    *norm(
        "model.decoder.final_layer_norm",
        "transformer.ln_f",
        bias="True",
        on="last",
        when="do_layer_norm_before",
    ),
    *head("lm_head.weight", _EMBEDDING, when=_PLAIN),
    Make(
        "lm_head.weight",
        (
            Projection(
                Part(_EMBEDDING, _NARROW, (Shard(0, "vocab_size", pad=True),)),
                Part("model.decoder.project_out.weight", ("word_embed_proj_dim", "hidden_size")),
            ),
        ),
        on="last",
        when=_PROJECTED,
    ),
)

FAMILY = Family(
    name="opt",
    architectures=("OPTForCausalLM",),
    model_class=OPT,
    config=_CONFIG,
    weight_map=_WEIGHT_MAP,
    optional_prefix="model.",
)
