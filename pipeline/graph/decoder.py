"""The decoder graph: embedding, layers, final norm and head, assembled from the parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx

from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.graph.attention import Cache, Form, Positions, head_shapes, self_attention
from pipeline.graph.builder import Dims, GraphBuilder, numpy_dtype
from pipeline.graph.config import DecoderConfig, read_config
from pipeline.graph.facts import GraphFacts, graph_facts
from pipeline.graph.linear import linear
from pipeline.graph.mlp import gated_mlp
from pipeline.graph.norm import rms_norm
from pipeline.graph.rotary import rotary_tables
from pipeline.graph.weights import JoinedWeights

Logits = Literal["last", "all"]


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """Which decoder graph to write.

    `fixed_cache`: the caches have `max_seq_len` slots, as TensorRT's engines need; otherwise their
    number is dynamic (at most `max_seq_len`), so that short texts do not pay for long ones.
    """

    max_seq_len: int
    compute_dtype: str
    logits: Logits = "last"
    form: Form = "mask"
    fixed_cache: bool = True


def write_decoder(
    checkpoint: TrtllmCheckpoint,
    out_path: Path,
    *,
    max_seq_len: int,
    compute_dtype: str,
    logits: Logits = "last",
    form: Form = "mask",
    fixed_cache: bool = True,
) -> GraphFacts:
    """Write `decoder_model` to a file: the same bytes for the same arguments.

    The caller places the rank files beside `out_path` (`GraphFacts.weight_files`).
    """
    options = GraphOptions(max_seq_len, compute_dtype, logits, form, fixed_cache)
    model, facts = decoder_model(checkpoint, options)
    out_path.write_bytes(model.SerializeToString(deterministic=True))
    return facts


def decoder_model(
    checkpoint: TrtllmCheckpoint, options: GraphOptions
) -> tuple[onnx.ModelProto, GraphFacts]:
    """The decoder of a checkpoint as ONNX, opset 24.

    Weights are external data: byte ranges of the rank files, `rank<N>.safetensors`. They are cast
    where `compute_dtype` is not their storage type.

    Inputs (b = batch, s = seq, dynamic; t = cache slots): `input_ids` and `position_ids` int64
    `[b, s]`; `write_indices` int64 `[b]`; `mask` bool `[b, 1, s, t]` (form "mask") or
    `nonpad_kv_seqlen` int64 `[b]` (form "lengths": `write_indices + s`); `last_index` int64 `[b]`
    (logits "last"); `past_key.<i>`, `past_value.<i>` `[b, num_key_value_heads, t, head_size]`.
    Outputs: `logits` float32 `[b, vocab_size]` of the token at `last_index`, or
    `[b, s, vocab_size]`; `present_key.<i>`, `present_value.<i>` shaped as the past.

    Raises RecipeError where the graph cannot express the checkpoint, VerificationError where the
    rank files do not hold what `config.json` says.
    """
    config = read_config(checkpoint.config)
    weights = JoinedWeights(checkpoint, config)
    g = GraphBuilder(options.compute_dtype)
    _decoder(g, config, weights, options)
    weights.raise_faults()
    model = g.model("decoder")
    return model, graph_facts(model, options.compute_dtype)


def _decoder(
    g: GraphBuilder, config: DecoderConfig, weights: JoinedWeights, options: GraphOptions
) -> None:
    slots: int | str = options.max_seq_len if options.fixed_cache else "slots"
    input_ids = g.input("input_ids", "int64", ["batch", "seq"])
    at = _positions(g, config, options, slots)
    last_index = g.input("last_index", "int64", ["batch"]) if options.logits == "last" else None
    cache_dims: Dims = ["batch", config.num_key_value_heads, slots, config.head_size]
    pasts = [_past(g, layer, cache_dims) for layer in range(config.num_hidden_layers)]
    hidden = g.node("Gather", [g.weight(weights.embedding(), cast=False), input_ids], "embedding")
    hidden = g.cast(hidden, config.dtype, "embedding.cast")  # [batch, seq, hidden_size]
    presents = []
    for layer, past in enumerate(pasts):
        hidden, present = _layer(g, config, weights, layer, hidden, past, at)
        presents.append(present)
    _head(g, config, weights, hidden, last_index)
    for present in presents:
        g.output(present.key, g.compute_dtype, cache_dims)
        g.output(present.value, g.compute_dtype, cache_dims)


def _past(g: GraphBuilder, layer: int, dims: Dims) -> Cache:
    """Declare the cache inputs of one layer."""
    key = g.input(f"past_key.{layer}", g.compute_dtype, dims)
    return Cache(key, g.input(f"past_value.{layer}", g.compute_dtype, dims))


def _positions(
    g: GraphBuilder, config: DecoderConfig, options: GraphOptions, slots: int | str
) -> Positions:
    """Declare the inputs that place the tokens, and the constants that all layers share."""
    position_ids = g.input("position_ids", "int64", ["batch", "seq"])
    write_indices = g.input("write_indices", "int64", ["batch"])
    if options.form == "mask":
        visible = g.input("mask", "bool", ["batch", 1, "seq", slots])
    else:
        visible = g.input("nonpad_kv_seqlen", "int64", ["batch"])
    cos, sin = rotary_tables(config, options.max_seq_len)
    head_shapes(g, config)
    return Positions(
        position_ids,
        write_indices,
        visible,
        g.constant("rotary.cos", cos.astype(numpy_dtype(g.compute_dtype))),
        g.constant("rotary.sin", sin.astype(numpy_dtype(g.compute_dtype))),
        options.form,
    )


def _layer(
    g: GraphBuilder,
    config: DecoderConfig,
    weights: JoinedWeights,
    layer: int,
    hidden: str,
    past: Cache,
    at: Positions,
) -> tuple[str, Cache]:
    """A pre-norm layer on `[batch, seq, hidden_size]`: attention, then MLP, each with residual."""
    scope, width = f"layers.{layer}", (config.hidden_size,)
    scale = weights.whole("input_layernorm.weight", width, layer)
    normed = rms_norm(g, hidden, scale, config.norm_epsilon, f"{scope}.input_layernorm")
    attended, present = self_attention(g, config, weights, layer, normed, past, at)
    hidden = g.node("Add", [hidden, attended], f"{scope}.after_attention")
    scale = weights.whole("post_layernorm.weight", width, layer)
    normed = rms_norm(g, hidden, scale, config.norm_epsilon, f"{scope}.post_layernorm")
    fed = gated_mlp(g, config, weights, layer, normed)
    return g.node("Add", [hidden, fed], f"{scope}.after_mlp"), present


def _head(
    g: GraphBuilder,
    config: DecoderConfig,
    weights: JoinedWeights,
    hidden: str,
    last_index: str | None,
) -> None:
    """Final norm and head. Only the wanted token of each sequence passes where that is known."""
    dims: list[int | str] = ["batch", "seq", config.vocab_size]
    if last_index is not None:
        column = g.node("Unsqueeze", [last_index, g.constant("axis.1", [1])], "last_index.column")
        hidden = g.node("GatherND", [hidden, column], "last_hidden", batch_dims=1)
        dims = ["batch", config.vocab_size]  # hidden is [batch, hidden_size] from here
    scale = weights.whole("transformer.ln_f.weight", (config.hidden_size,))
    normed = rms_norm(g, hidden, scale, config.norm_epsilon, "ln_f")
    computed = linear(g, normed, weights.head(), None, "lm_head")
    g.node("Cast", [computed], "logits", to=onnx.TensorProto.FLOAT)
    g.output("logits", "float32", dims)
