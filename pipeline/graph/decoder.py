"""The decoder graph: embedding, layers, final norm and head, assembled from the parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx

from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.errors import VerificationError
from pipeline.graph.builder import Dims, GraphBuilder
from pipeline.graph.config import read_decoder
from pipeline.graph.description import Attention, Decoder
from pipeline.graph.facts import GraphFacts, graph_facts
from pipeline.graph.inventory import check_inventory
from pipeline.graph.layer import decoder_layer
from pipeline.graph.linear import linear
from pipeline.graph.norm import norm
from pipeline.graph.parts import Cache, CacheOrder, Dialect, Parts, cached_value_size
from pipeline.graph.positions import Form, Positions
from pipeline.graph.softcap import soft_capped
from pipeline.graph.weights import HEAD_BIAS, JoinedWeights

Logits = Literal["last", "all"]

# Products of other weights, for another kernel of TensorRT-LLM's (`families/deepseek2.py`).
_REPEATED = ("attention.fused_q_proj", "attention.k_b_proj_trans")


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """Which decoder graph to write.

    `fixed_cache`: the caches have `max_seq_len` slots, as TensorRT's engines need; otherwise their
    number is dynamic (at most `max_seq_len`), so that short texts do not pay for long ones.
    `dialect`: for whom soft-capping, experts and values of another width than keys are written.
    `cache_order`: see `CacheOrder`; latent attention keeps its caches by heads. `flat_linear`:
    linear layers are `Gemm`s, which ONNX Runtime's CPU provider loads in half the memory.
    """

    max_seq_len: int
    compute_dtype: str
    logits: Logits = "last"
    form: Form = "mask"
    fixed_cache: bool = True
    dialect: Dialect = "onnxruntime"
    cache_order: CacheOrder = "heads"
    flat_linear: bool = False


def write_decoder(
    checkpoint: TrtllmCheckpoint,
    out_path: Path,
    *,
    max_seq_len: int,
    compute_dtype: str,
    logits: Logits = "last",
    form: Form = "mask",
    fixed_cache: bool = True,
    dialect: Dialect = "onnxruntime",
    cache_order: CacheOrder = "heads",
    flat_linear: bool = False,
) -> GraphFacts:
    """Write `decoder_model` to a file: the same bytes for the same arguments.

    The caller places the rank files beside `out_path` (`GraphFacts.weight_files`).
    """
    options = GraphOptions(
        max_seq_len, compute_dtype, logits, form, fixed_cache, dialect, cache_order, flat_linear
    )
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
    `[b, s]`; `write_indices` int64 `[b]`; `mask` bool `[b, 1, s, t]` (form "mask") or, where an
    attention takes it, `nonpad_kv_seqlen` int64 `[b]` (form "lengths": `write_indices + s`);
    `last_index` int64 `[b]` (logits "last"); for each layer with attention `past_key.<i>` `[b,
    num_key_value_heads, t, key_size]` and `past_value.<i>` `[..., value_size]`.
    Outputs: `logits` float32 `[b, vocab_size]` of the token at `last_index`, or
    `[b, s, vocab_size]`; `present_key.<i>`, `present_value.<i>` shaped as the past.

    Raises RecipeError where the graph cannot express the checkpoint, VerificationError where the
    rank files do not hold what `config.json` says.
    """
    decoder = read_decoder(checkpoint.config)
    check_inventory(checkpoint)
    weights = JoinedWeights(checkpoint)
    g = GraphBuilder(options.compute_dtype, flat_linear=options.flat_linear)
    _decoder(g, decoder, weights, options)
    left = weights.unused(lambda name: name.endswith(_REPEATED))
    if left:
        raise VerificationError("the decoder graph leaves out tensors", facts=left)
    model = g.model("decoder")
    return model, graph_facts(model, options.compute_dtype, len(decoder.attentions))


def _decoder(
    g: GraphBuilder, decoder: Decoder, weights: JoinedWeights, options: GraphOptions
) -> None:
    input_ids = g.input("input_ids", "int64", ["batch", "seq"])
    slots: int | str = options.max_seq_len if options.fixed_cache else "slots"
    first = next((f"past_key.{layer}" for layer in decoder.attentions), None)
    at = Positions(g, options.form, options.max_seq_len, slots, first)
    last_index = g.input("last_index", "int64", ["batch"]) if options.logits == "last" else None
    parts = Parts(g, weights, at, options.dialect, decoder.hidden_size, options.cache_order)
    dims = {layer: _cache_dims(parts, decoder, layer, slots) for layer in decoder.attentions}
    pasts = {layer: _past(g, layer, *dims[layer]) for layer in dims}
    hidden = _embedding(parts, decoder, input_ids)
    presents = {}
    for layer in range(len(decoder.layers)):
        hidden, present = decoder_layer(parts, decoder, layer, hidden, pasts.get(layer))
        if present is not None:
            presents[layer] = present
    _head(parts, decoder, hidden, last_index)
    for layer, present in presents.items():
        for name, shape in zip((present.key, present.value), dims[layer], strict=True):
            g.output(name, g.compute_dtype, shape)


def _past(g: GraphBuilder, layer: int, key: Dims, value: Dims) -> Cache:
    """Declare the cache inputs of a layer with attention."""
    past = g.input(f"past_key.{layer}", g.compute_dtype, key)
    return Cache(past, g.input(f"past_value.{layer}", g.compute_dtype, value))


def _cache_dims(parts: Parts, decoder: Decoder, layer: int, slots: int | str) -> tuple[Dims, Dims]:
    """Of keys and of values: see `CacheOrder` and `cached_value_size`."""
    attention = decoder.attentions[layer]
    heads = attention.num_key_value_heads
    if parts.order == "tokens" and isinstance(attention, Attention):
        width = heads * attention.head_size
        return ["batch", slots, width], ["batch", slots, width]
    value_size = cached_value_size(attention, parts.dialect)
    return ["batch", heads, slots, attention.key_size], ["batch", heads, slots, value_size]


def _embedding(parts: Parts, decoder: Decoder, input_ids: str) -> str:
    """Tokens `[b, s]` -> `[b, s, hidden_size]`: looked up, scaled, with positions, normed."""
    g, weights = parts.g, parts.weights
    table = weights.embedding()
    hidden = g.node("Gather", [g.weight(table, cast=False), input_ids], "embedding")
    hidden = g.cast(hidden, table.dtype, "embedding.cast")
    hidden = g.scaled(hidden, decoder.embedding_multiplier, "embedding.scaled")
    if decoder.learned_positions:
        positions = weights.positions()
        place = g.node(
            "Gather", [g.weight(positions, cast=False), parts.at.position_ids], "positions"
        )
        place = g.cast(place, positions.dtype, "positions.cast")
        hidden = g.node("Add", [hidden, place], "embedding.placed")
    if decoder.embedding_norm is not None:
        hidden = norm(g, weights, decoder.norm, decoder.embedding_norm, None, hidden)
    return hidden


def _head(parts: Parts, decoder: Decoder, hidden: str, last_index: str | None) -> None:
    """Final norm and head. Only the wanted token of each sequence passes where that is known."""
    g, weights = parts.g, parts.weights
    dims: list[int | str] = ["batch", "seq", decoder.vocab_size]
    if last_index is not None:
        column = g.node("Unsqueeze", [last_index, g.constant("axis.1", [1])], "last_index.column")
        hidden = g.node("GatherND", [hidden, column], "last_hidden", batch_dims=1)
        dims = ["batch", decoder.vocab_size]  # hidden is [batch, hidden_size] from here
    if decoder.final_norm is not None:
        hidden = norm(g, weights, decoder.norm, decoder.final_norm, None, hidden)
    bias = weights.head_bias() if weights.has(HEAD_BIAS) else None
    is_flat = last_index is not None
    computed = linear(g, hidden, weights.head(), bias, "lm_head", is_flat=is_flat)
    computed = g.scaled(computed, decoder.logits_multiplier, "lm_head.scaled")
    if decoder.logits_softcap is not None:
        computed = soft_capped(g, computed, decoder.logits_softcap, "lm_head.capped")
    g.node("Cast", [computed], "logits", to=onnx.TensorProto.FLOAT)
    g.output("logits", "float32", dims)
