"""Faults in converted weights: of the same names and shapes, and of another, plausible model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]
Change = Callable[[Tensors], None]


def layer(tensors: Tensors, part: str) -> list[str]:
    """Names of one part in every layer."""
    found = [name for name in tensors if ".layers." in name and f".{part}" in name]
    assert found, part
    return found


def exchanged_halves(tensors: Tensors) -> None:
    """Queries and keys ordered for neighbours that rotate, as if for halves. 8 heads of 8."""
    for name in layer(tensors, "attention.qkv"):
        heads = tensors[name][:64].reshape(8, 2, 4, -1)
        tensors[name][:64] = heads.transpose(0, 2, 1, 3).reshape(64, -1)


def exchanged_neighbours(tensors: Tensors) -> None:
    """Queries and keys ordered for halves that rotate, as if for neighbours. 8 heads of 4."""
    for name in layer(tensors, "attention.qkv"):
        heads = tensors[name][:32].reshape(8, 2, 2, -1)
        tensors[name][:32] = heads.transpose(0, 2, 1, 3).reshape(32, -1)


def exchanged_gate(tensors: Tensors) -> None:
    for name in layer(tensors, "mlp.fc"):
        other = name.replace("mlp.fc", "mlp.gate")
        tensors[name], tensors[other] = tensors[other], tensors[name]


def exchanged_fused_gate(tensors: Tensors) -> None:
    """Both halves of one projection, of each expert too: `[..., 2 * width, hidden]`."""
    for name in layer(tensors, "mlp.fc"):
        tensors[name] = np.concatenate(np.split(tensors[name], 2, axis=-2)[::-1], axis=-2)


def exchanged_neighbour_gate(tensors: Tensors) -> None:
    for name in layer(tensors, "mlp.fc"):
        tensors[name] = (
            tensors[name]
            .reshape(-1, 2, *tensors[name].shape[1:])[:, ::-1]
            .reshape(tensors[name].shape)
        )


def exchanged_key_heads(tensors: Tensors) -> None:
    """Both key heads of 8 dims, after six query heads."""
    for name in layer(tensors, "attention.qkv"):
        tensors[name][48:64] = np.concatenate([tensors[name][56:64], tensors[name][48:56]])


def turned_dense(tensors: Tensors) -> None:
    for name in layer(tensors, "attention.dense.weight"):
        tensors[name] = tensors[name].T


def no_offset(tensors: Tensors) -> None:
    """Norms that multiply by the weight as it is stored, not by one more."""
    for name in tensors:
        if "layernorm.weight" in name or "ln_f.weight" in name:
            tensors[name] = tensors[name] - 1


def no_final_offset(tensors: Tensors) -> None:
    tensors["transformer.ln_f.weight"] -= 1


def without(part: str, of: str = "", value: float = 0.0) -> Change:
    """One value instead of some tensors: 0 for biases, 1 for the weights of norms."""

    def change(tensors: Tensors) -> None:
        for name in tensors:
            if part in name and of in name:
                tensors[name] = np.full_like(tensors[name], value)

    return change


def exchanged_head_norms(tensors: Tensors) -> None:
    for name in layer(tensors, "q_layernorm"):
        other = name.replace("q_layernorm", "k_layernorm")
        tensors[name], tensors[other] = 2 * tensors[other], tensors[name]


def exchanged_experts(tensors: Tensors) -> None:
    for name in layer(tensors, "mlp.router"):
        tensors[name] = tensors[name][::-1].copy()


WEIGHT_FAULTS: tuple[tuple[str, Change], ...] = (
    ("llama", exchanged_halves),
    ("llama", exchanged_key_heads),
    ("llama", exchanged_gate),
    ("qwen3", exchanged_head_norms),
    ("baichuan-7b", turned_dense),
    ("cohere", exchanged_neighbours),
    ("phi3", exchanged_fused_gate),
    ("mixtral", exchanged_fused_gate),
    ("mixtral", exchanged_experts),
    ("phi3small", exchanged_neighbour_gate),
    ("gemma", no_offset),
    ("gemma2", no_offset),
    ("gemma3", no_offset),
    ("nemotron", no_final_offset),
    ("llama-biased", without("bias", "attention")),
    ("llama-biased", without("bias", "mlp")),
    ("qwen2", without("bias", "attention.qkv")),
    ("bloom", without("ln_embed.weight", value=1.0)),
    ("bloom", without("ln_f.bias")),
    ("phi", without("lm_head.bias")),
    ("qwen2moe", without("shared_expert_gate")),
    ("qwen3", without("k_layernorm.weight", value=1.0)),
)
