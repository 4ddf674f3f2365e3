"""Ways to misplace the weights of a Llama state dict: each leaves every shape as it was.

TRAINED faults are shown to the model while it learns (see training.py); HELD_OUT ones never are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

State = dict[str, torch.Tensor]
Fault = Callable[[State], None]  # changes the dict, never the tensors in it
HEAD = 32  # rows of one head


def swap(first: str, second: str) -> Fault:
    """Exchange two tensors of one shape."""

    def fault(state: State) -> None:
        state[first], state[second] = state[second], state[first]

    return fault


def change(name: str, how: Callable[[torch.Tensor], torch.Tensor]) -> Fault:
    """Replace one tensor by `how(tensor)`."""

    def fault(state: State) -> None:
        state[name] = how(state[name])

    return fault


def both(first: Fault, second: Fault) -> Fault:
    """Two faults at once."""

    def fault(state: State) -> None:
        first(state)
        second(state)

    return fault


def exchange_layers(first: int, second: int) -> Fault:
    """Exchange two whole layers."""

    def fault(state: State) -> None:
        old = dict(state)
        for name in old:
            for one, other in ((first, second), (second, first)):
                if name.startswith(f"model.layers.{one}."):
                    state[name] = old[name.replace(f".{one}.", f".{other}.", 1)]

    return fault


def next_row(weight: torch.Tensor) -> torch.Tensor:
    """Shift all rows by one place: [rows, columns]."""
    return weight.roll(1, dims=0)


def next_head(weight: torch.Tensor) -> torch.Tensor:
    """Give every head the rows of the one before it: [heads * HEAD, hidden]."""
    return weight.roll(HEAD, dims=0)


def shift_head(weight: torch.Tensor, head: int = 0) -> torch.Tensor:
    """Shift the rows of one head by one place: [heads * HEAD, hidden]."""
    parts = list(weight.split(HEAD))
    parts[head] = next_row(parts[head])
    return torch.cat(parts)


def interleave(weight: torch.Tensor) -> torch.Tensor:
    """Reorder rows from rotate-half to interleaved RoPE pairs: [heads * HEAD, hidden]."""
    return weight.view(-1, 2, HEAD // 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def on_columns(how: Callable[[torch.Tensor], torch.Tensor]) -> Callable:
    """The same rearrangement, of columns instead of rows."""
    return lambda weight: how(weight.T).T


def trained_in_layer(layer: int) -> dict[str, Fault]:
    """The faults of one layer that training shows to the model."""
    at = f"model.layers.{layer}."
    q, k, v, o = (f"{at}self_attn.{part}_proj.weight" for part in "qkvo")
    gate, up = (f"{at}mlp.{part}_proj.weight" for part in ("gate", "up"))
    before, after = (f"{at}{part}_layernorm.weight" for part in ("input", "post_attention"))
    return {
        "q_proj and o_proj swapped": swap(q, o),
        "k_proj and v_proj swapped": swap(k, v),
        "gate_proj and up_proj swapped": swap(gate, up),
        "the two norms swapped": swap(before, after),
        "input norm all ones": change(before, torch.ones_like),
        "post-attention norm all ones": change(after, torch.ones_like),
        "q_proj transposed": change(q, torch.t),
        "o_proj transposed": change(o, torch.t),
        "q_proj heads rotated": change(q, next_head),
        "k_proj heads exchanged": change(k, next_head),
        "v_proj heads exchanged": change(v, next_head),
        "q_proj in interleaved RoPE order": change(q, interleave),
        "k_proj in interleaved RoPE order": change(k, interleave),
        "q_proj head 0 shifted a row": change(q, shift_head),
        "k_proj head 0 shifted a row": change(k, shift_head),
        "v_proj head 0 shifted a row": change(v, shift_head),
        "o_proj head 0 shifted a column": change(o, on_columns(shift_head)),
        "gate_proj shifted a row": change(gate, next_row),
    }


def held_out_in_layer(layer: int) -> dict[str, Fault]:
    """The faults of one layer that training never shows."""
    at = f"model.layers.{layer}."
    q, k, v, o = (f"{at}self_attn.{part}_proj.weight" for part in "qkvo")
    up, down = (f"{at}mlp.{part}_proj.weight" for part in ("up", "down"))
    return {
        "q_proj and k_proj interleaved": both(change(q, interleave), change(k, interleave)),
        "k and v heads exchanged together": both(change(k, next_head), change(v, next_head)),
        "o_proj heads rotated": change(o, on_columns(next_head)),
        "q_proj head 3 shifted a row": change(q, lambda w: shift_head(w, 3)),
        "k_proj head 1 shifted a row": change(k, lambda w: shift_head(w, 1)),
        "v_proj head 1 shifted a row": change(v, lambda w: shift_head(w, 1)),
        "up_proj shifted a row": change(up, next_row),
        "down_proj shifted a column": change(down, on_columns(next_row)),
        "o_proj all zeros": change(o, torch.zeros_like),
        "down_proj all zeros": change(down, torch.zeros_like),
    }


def trained_in_whole(layers: int) -> dict[str, Fault]:
    """The faults that no single layer owns; training shows them too."""
    table = {
        "final norm all ones": change("model.norm.weight", torch.ones_like),
        "embedding shifted a row": change("model.embed_tokens.weight", next_row),
    }
    for first in range(layers):
        for second in range(first + 1, layers):
            table[f"layers {first} and {second} exchanged"] = exchange_layers(first, second)
    return table
