"""A second converter, as plain as can be: load everything, split, join. The tests' oracle.

Written from the format's description (names, order and shapes of TensorRT-LLM's LLaMA class), not
from the rules: one statement per target tensor, whole arrays in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]
DTYPES: dict[str, Any] = {
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
    "float32": np.float32,
}


def convert(
    arrays: Mapping[str, Array], config: Mapping[str, Any], tp_size: int, pp_size: int, dtype: str
) -> list[dict[str, Array]]:
    """The tensors of every rank."""
    with np.errstate(over="ignore"):
        source = {name: array.astype(DTYPES[dtype]) for name, array in arrays.items()}
    ranks = []
    for layers in np.array_split(np.arange(config["num_hidden_layers"]), pp_size):
        is_first, is_last = 0 in layers, config["num_hidden_layers"] - 1 in layers
        for tp_rank in range(tp_size):
            rank: dict[str, Array] = {}
            if is_first:
                rank["transformer.vocab_embedding.weight"] = source["model.embed_tokens.weight"]
            for local, layer in enumerate(layers):
                made = convert_layer(source, config, f"model.layers.{layer}", tp_size, tp_rank)
                rank |= {f"transformer.layers.{local}.{name}": made[name] for name in made}
            if is_last:
                tied = config.get("tie_word_embeddings", False)
                head = source["model.embed_tokens.weight" if tied else "lm_head.weight"]
                rank["transformer.ln_f.weight"] = source["model.norm.weight"]
                rank["lm_head.weight"] = np.split(pad(head, tp_size), tp_size)[tp_rank]
            ranks.append(rank)
    return ranks


def convert_layer(
    source: Mapping[str, Array], config: Mapping[str, Any], layer: str, tp_size: int, tp_rank: int
) -> dict[str, Array]:
    """One layer of one rank."""
    made = {
        "input_layernorm.weight": source[f"{layer}.input_layernorm.weight"],
        "post_layernorm.weight": source[f"{layer}.post_attention_layernorm.weight"],
        "attention.dense.weight": np.split(
            source[f"{layer}.self_attn.o_proj.weight"], tp_size, axis=1
        )[tp_rank],
        "mlp.proj.weight": np.split(source[f"{layer}.mlp.down_proj.weight"], tp_size, axis=1)[
            tp_rank
        ],
    }
    for kind in ("weight", "bias"):
        if f"{layer}.mlp.gate_proj.{kind}" in source:
            for target, name in (("fc", "gate_proj"), ("gate", "up_proj")):
                whole = source[f"{layer}.mlp.{name}.{kind}"]
                made[f"mlp.{target}.{kind}"] = np.split(whole, tp_size)[tp_rank]
        if f"{layer}.self_attn.q_proj.{kind}" in source:
            q, k, v = (source[f"{layer}.self_attn.{x}_proj.{kind}"] for x in "qkv")
            shares = [
                np.split(q, tp_size)[tp_rank],
                np.split(repeat_heads(k, config, tp_size), tp_size)[tp_rank],
                np.split(repeat_heads(v, config, tp_size), tp_size)[tp_rank],
            ]
            made[f"attention.qkv.{kind}"] = np.concatenate(shares)
    if f"{layer}.self_attn.o_proj.bias" in source:
        made["attention.dense.bias"] = source[f"{layer}.self_attn.o_proj.bias"]
    if f"{layer}.mlp.down_proj.bias" in source:
        made["mlp.proj.bias"] = source[f"{layer}.mlp.down_proj.bias"]
    return made


def repeat_heads(array: Array, config: Mapping[str, Any], tp_size: int) -> Array:
    """Keys or values with every head repeated until each rank has one."""
    num_heads = config["num_key_value_heads"]
    if num_heads >= tp_size:
        return array
    heads = array.reshape(num_heads, -1, *array.shape[1:])
    return np.repeat(heads, tp_size // num_heads, axis=0).reshape(-1, *array.shape[1:])


def pad(array: Array, tp_size: int) -> Array:
    """Zero rows at the end, up to a multiple of tp_size."""
    rows = -len(array) % tp_size
    return np.concatenate([array, np.zeros((rows, array.shape[1]), array.dtype)])
