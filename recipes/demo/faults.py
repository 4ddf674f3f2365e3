"""Ways to misplace the weights of a Llama state dict: each leaves every shape as it was.

The trained faults are shown to the model while it learns (see training.py), the held-out never.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

State = dict[str, torch.Tensor]
Fault = Callable[[State], None]  # changes the dict, never the tensors in it
HEAD = 32  # rows of one head
QUERY_HEADS, KEY_HEADS = 4, 2


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


def shift_head(weight: torch.Tensor, head: int) -> torch.Tensor:
    """Shift the rows of one head by one place: [heads * HEAD, hidden]."""
    parts = list(weight.split(HEAD))
    parts[head] = next_row(parts[head])
    return torch.cat(parts)


def middle_heads(weight: torch.Tensor) -> torch.Tensor:
    """Exchange heads 1 and 2, which belong to different key/value heads: [4 * HEAD, hidden]."""
    first, second, third, fourth = weight.split(HEAD)
    return torch.cat([first, third, second, fourth])


def without_last_head(weight: torch.Tensor) -> torch.Tensor:
    """Zeros in the rows of the last head: [heads * HEAD, hidden]."""
    return torch.cat([weight[:-HEAD], torch.zeros_like(weight[-HEAD:])])


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
        "q_proj and k_proj interleaved": both(change(q, interleave), change(k, interleave)),
        "gate_proj shifted a row": change(gate, next_row),
    } | one_head_each(q, k, v, o)


def one_head_each(q: str, k: str, v: str, o: str) -> dict[str, Fault]:
    """Every single head of one layer shifted by one place."""
    table = {}
    for head in range(QUERY_HEADS):
        shift = partial(shift_head, head=head)
        table[f"q_proj head {head} shifted a row"] = change(q, shift)
        table[f"o_proj head {head} shifted a column"] = change(o, on_columns(shift))
        if head < KEY_HEADS:
            table[f"k_proj head {head} shifted a row"] = change(k, shift)
            table[f"v_proj head {head} shifted a row"] = change(v, shift)
    return dict(sorted(table.items()))


def held_out_in_layer(layer: int) -> dict[str, Fault]:
    """The faults of one layer that training never shows."""
    at = f"model.layers.{layer}."
    q, k, v, o = (f"{at}self_attn.{part}_proj.weight" for part in "qkvo")
    up, down = (f"{at}mlp.{part}_proj.weight" for part in ("up", "down"))
    return {
        "k and v heads exchanged together": both(change(k, next_head), change(v, next_head)),
        "q_proj heads 1 and 2 exchanged": change(q, middle_heads),
        "o_proj heads 1 and 2 exchanged": change(o, on_columns(middle_heads)),
        "o_proj heads rotated": change(o, on_columns(next_head)),
        "k_proj head 1 all zeros": change(k, without_last_head),
        "v_proj head 1 all zeros": change(v, without_last_head),
        "q_proj head 3 all zeros": change(q, without_last_head),
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
