"""Rules of a layer's parts, out of those of `decoder_rules`: what most families have alike."""

from __future__ import annotations

from pipeline.weights.decoder_rules import (
    LAYER,
    Q_SIZE,
    Rules,
    column_linear,
    norm,
    row_linear,
)
from pipeline.weights.rules import Change, Drop, Make, Part, Shard


def attention_dense(source: str, bias: str | None = None, transposed: bool = False) -> Rules:
    """The linear behind attention; each rank has the columns of its query heads."""
    return row_linear(
        source,
        f"{LAYER}.attention.dense",
        columns=Q_SIZE,
        unit="num_attention_heads",
        bias=bias,
        transposed=transposed,
    )


def head_norms(
    queries: str, keys: str, when: str | None = None, change: Change | None = None
) -> Rules:
    """Norms of each query head and of each key head."""
    return (
        *norm(
            queries, f"{LAYER}.attention.q_layernorm", size="head_size", when=when, change=change
        ),
        *norm(keys, f"{LAYER}.attention.k_layernorm", size="head_size", when=when, change=change),
    )


def gated_mlp(
    source: str,
    activated: str = "gate_proj",
    other: str = "up_proj",
    down: str = "down_proj",
    bias: str | None = None,
    when: str | None = None,
) -> Rules:
    """down(act(activated(x)) * other(x)).

    The names mislead: TensorRT-LLM computes proj(act(fc(x)) * gate(x)), so its `fc` is the source's
    gate_proj and its `gate` the up_proj (`layers/mlp.py`, GatedMLP;
    `models/model_weights_loader.py`).
    """
    return (
        *column_linear(f"{source}.{activated}", f"{LAYER}.mlp.fc", bias=bias, when=when),
        *column_linear(f"{source}.{other}", f"{LAYER}.mlp.gate", bias=bias, when=when),
        *row_linear(f"{source}.{down}", f"{LAYER}.mlp.proj", bias=bias, when=when),
    )


def shared_expert(source: str, size: str, when: str | None = None) -> Rules:
    """The expert of all tokens; its up projection and its gate are one tensor, in this order."""
    fused = (f"{source}.up_proj", f"{source}.gate_proj")
    target = f"{LAYER}.mlp.shared_expert"
    return (
        *column_linear(fused, f"{target}.fc", rows=size, when=when),
        *row_linear(f"{source}.down_proj", f"{target}.proj", columns=size, when=when),
    )


def position_embedding(source: str) -> Rules:
    """A table of learned positions, shared where the embedding is."""
    shards = (
        Shard(0, "max_position_embeddings", pad=True, over="embedding_rows"),
        Shard(1, "hidden_size", over="embedding_columns"),
    )
    part = Part(source, ("max_position_embeddings", "hidden_size"), shards)
    return (Make("transformer.position_embedding.weight", (part,), on="first"),)


def rotary_buffer(attention: str) -> Rules:
    """The frequencies that old checkpoints hold."""
    because = "a buffer of old checkpoints, worked out from the rotary base"
    return (Drop(f"{attention}.rotary_emb.inv_freq", because),)
