"""Remote-code architectures whose layers differ from one another, within Llama of transformers.

Sources of the published code, by model on the Hugging Face Hub: deepseek-ai/deepseek-moe-16b-base
(`modeling_deepseek.py`), nvidia/Llama-3_1-Nemotron-51B-Instruct and Deci/DeciLM-7B
(`modeling_decilm.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.parity.as_published import read_json
from tests.parity.equivalents_llama import LLAMA, llama_config
from tests.parity.exchanged import (
    Layer,
    Tensors,
    build,
    gated,
    linear,
    plain,
    read_tensors,
    repeated,
)
from tests.parity.references import Original

WRITTEN = f"{LLAMA} with exchanged layers, written for this project after"


def decilm(folder: Path) -> Original:
    """DeciLM-7B: a number of key heads for each layer, repeated here for all query heads."""
    config = read_json(folder / "config.json")
    heads = config["num_attention_heads"]
    tensors = all_heads(read_tensors(folder), heads, config["hidden_size"] // heads)
    model = build("Llama", llama_config(config), tensors)
    return Original(plain(model), f"{LLAMA}, key and value heads repeated")


def deci(folder: Path) -> Original:
    """Nemotron-NAS: an attention or MLP may be left out, with its norm, or be one projection."""
    config = read_json(folder / "config.json")
    heads = config["num_attention_heads"]
    tensors = all_heads(read_tensors(folder), heads, config["hidden_size"] // heads)
    kept = {name: each for name, each in tensors.items() if not odd(name)}
    settings = llama_config(config, intermediate_size=1)
    model = build("Llama", settings, kept, missing="layers.")
    for number, (layer, block) in enumerate(
        zip(model.model.layers, config["block_configs"], strict=True)
    ):
        prefix = f"model.layers.{number}."
        check_present(tensors, prefix, block)
        exchange_attention(layer, block["attention"], tensors, prefix)
        exchange_mlp(layer, block["ffn"], tensors, prefix)
    return Original(
        plain(model), f"{WRITTEN} nvidia/Llama-3_1-Nemotron-51B-Instruct, modeling_decilm.py"
    )


def odd(name: str) -> bool:
    """Whether a tensor has no place in a Llama whose MLPs are exchanged."""
    return ".mlp." in name or "linear_attn" in name


def check_present(tensors: Tensors, prefix: str, block: Mapping[str, Any]) -> None:
    """The tensors that a layer reads are there; the model would keep random ones otherwise."""
    if not block["attention"]["no_op"]:
        assert f"{prefix}input_layernorm.weight" in tensors
        linear_one = block["attention"]["replace_with_linear"]
        assert linear_one or f"{prefix}self_attn.q_proj.weight" in tensors
    if not block["ffn"]["no_op"]:
        assert f"{prefix}post_attention_layernorm.weight" in tensors


def exchange_attention(layer: Any, block: Mapping[str, Any], tensors: Tensors, prefix: str) -> None:
    """Leave out an attention, or make it one projection."""
    import torch

    if block["no_op"]:
        layer.self_attn.forward = lambda hidden_states, **_: (torch.zeros_like(hidden_states), None)
    elif block["replace_with_linear"]:
        only = linear(tensors[f"{prefix}self_attn.linear_attn.weight"])
        layer.self_attn.forward = lambda hidden_states, **_: (only(hidden_states), None)


def exchange_mlp(layer: Any, block: Mapping[str, Any], tensors: Tensors, prefix: str) -> None:
    """Leave out an MLP, make it one projection, or give it its own width."""
    import torch

    if block["no_op"]:
        layer.mlp.forward = torch.zeros_like
    elif block["replace_with_linear"]:
        layer.mlp.forward = linear(tensors[f"{prefix}mlp.linear_mlp.weight"])
    else:
        layer.mlp.forward = gated(tensors, f"{prefix}mlp.")


def all_heads(tensors: Tensors, heads: int, width: int) -> dict[str, Any]:
    """Keys and values of every layer for as many heads as it has queries."""
    return {
        name: repeated(each, heads, width) if ".k_proj." in name or ".v_proj." in name else each
        for name, each in tensors.items()
    }


def deepseek(folder: Path) -> Original:
    """DeepSeek MoE: routed and shared experts after the first layers, in a Llama."""
    config = read_json(folder / "config.json")
    tensors = read_tensors(folder)
    dense = config["first_k_dense_replace"]
    names = [f"model.layers.{number}.mlp." for number in range(config["num_hidden_layers"])]
    sparse = tuple(names[dense:])
    kept = {name: each for name, each in tensors.items() if not name.startswith(sparse)}
    model = build("Llama", llama_config(config), kept, missing=".mlp.")
    assert all(f"{name}gate_proj.weight" in kept for name in names[:dense])
    for name, layer in zip(sparse, model.model.layers[dense:], strict=True):
        layer.mlp.forward = experts(tensors, name, config)
    words = f"{WRITTEN} deepseek-ai/deepseek-moe-16b-base, modeling_deepseek.py"
    return Original(plain(model), words)


def experts(tensors: Tensors, prefix: str, config: Mapping[str, Any]) -> Layer:
    """The shared experts, and those of the highest softmax scores, weighted by these."""
    import torch

    router = linear(tensors[f"{prefix}gate.weight"])
    routed = [
        gated(tensors, f"{prefix}experts.{number}.") for number in range(config["n_routed_experts"])
    ]
    shared = gated(tensors, f"{prefix}shared_experts.")

    def forward(x: Any) -> Any:
        scores = router(x).softmax(-1)
        best = scores.topk(config["num_experts_per_tok"], dim=-1)
        weights = torch.zeros_like(scores).scatter(-1, best.indices, best.values)
        if config["norm_topk_prob"]:
            weights = weights / weights.sum(-1, keepdim=True)
        parts = [weights[..., number, None] * expert(x) for number, expert in enumerate(routed)]
        return shared(x) + torch.stack(parts).sum(0)

    return forward
