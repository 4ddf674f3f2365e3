"""Activations by the names that Hugging Face gives them, and gates of two halves.

Read: transformers 5.24 `activations.py`; TensorRT-LLM 1.2 `functional.py`, whose `gelu` is the tanh
form of `gelu`. What is computed here is the model as it was trained: the name's own meaning.
"""

from __future__ import annotations

from pipeline.graph.builder import GraphBuilder

ACTIVATIONS = (
    *("gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "quick_gelu"),
    *("relu", "relu2", "silu", "squared-relu", "tanh"),
)

_TANH_GELU = ("gelu_fast", "gelu_new", "gelu_pytorch_tanh")
_SQUARED_RELU = ("relu2", "squared-relu")


def activation(g: GraphBuilder, kind: str, x: str, name: str) -> str:
    """One of `ACTIVATIONS` on a value of any shape."""
    assert kind in ACTIVATIONS, kind
    if kind == "silu":
        return g.node("Mul", [x, g.node("Sigmoid", [x], f"{name}.sigmoid")], name)
    if kind == "quick_gelu":
        return _quick_gelu(g, x, name)
    if kind in _SQUARED_RELU:
        positive = g.node("Relu", [x], f"{name}.relu")
        return g.node("Mul", [positive, positive], name)
    if kind in {"relu", "tanh"}:
        return g.node(kind.capitalize(), [x], name)
    return g.node("Gelu", [x], name, approximate="tanh" if kind in _TANH_GELU else "none")


def gated_halves(g: GraphBuilder, kind: str, x: str, name: str, num_parts: int = 1) -> str:
    """`first * activation(second)`: x `[..., 2 * size]` -> `[..., size]`.

    TensorRT-LLM's `swiglu` (`silu`), of its experts too: the half that is activated comes last.
    Tensor-parallel parts that were joined hold both halves each: `num_parts` pairs of halves.
    """
    count = 2 * num_parts
    cut = g.several(
        "Split", [x], [f"{name}.half{i}" for i in range(count)], axis=-1, num_outputs=count
    )
    plain, gate = cut[0], cut[1]
    if num_parts > 1:
        plain = g.node("Concat", cut[0::2], f"{name}.plain", axis=-1)
        gate = g.node("Concat", cut[1::2], f"{name}.gate", axis=-1)
    return g.node("Mul", [plain, activation(g, kind, gate, f"{name}.act")], name)


def gegelu(g: GraphBuilder, x: str, size: int, limit: float | None, name: str) -> str:
    """`quick_gelu(min(a, limit)) * (clip(b, -limit, limit) + 1)`: `[b, s, 2 * size]` -> half of it.

    `a` are the even rows, `b` the odd ones (Phi-3-small; TensorRT-LLM 1.2 `functional.py`): pairs
    stay together in any layout. Neither `Slice` nor `Clip`: ONNX Runtime's CUDA provider has not
    both for bfloat16.
    """
    pairs_shape = g.shared(f"shape.pairs.{size}", lambda n: g.constant(n, [0, 0, size, 2]))
    pairs = g.node("Reshape", [x, pairs_shape], f"{name}.pairs")
    names = [f"{name}.gate", f"{name}.plain"]
    gate, plain = g.several("Split", [pairs], names, axis=-1, num_outputs=2)  # [b, s, size, 1]
    if limit is not None:
        high, low = g.number(limit, f"{name}.high"), g.number(-limit, f"{name}.low")
        gate = g.node("Min", [gate, high], f"{name}.gate_cut")
        plain = g.node("Min", [plain, high], f"{name}.plain_below")
        plain = g.node("Max", [plain, low], f"{name}.plain_cut")
    shifted = g.node("Add", [plain, g.number(1.0, f"{name}.one")], f"{name}.shifted")
    made = g.node("Mul", [_quick_gelu(g, gate, f"{name}.act"), shifted], f"{name}.by_pair")
    flat_shape = g.shared(f"shape.halves.{size}", lambda n: g.constant(n, [0, 0, size]))
    return g.node("Reshape", [made, flat_shape], name)


def _quick_gelu(g: GraphBuilder, x: str, name: str) -> str:
    """`x * sigmoid(1.702 * x)`."""
    steeper = g.node("Mul", [x, g.number(1.702, f"{name}.slope")], f"{name}.steeper")
    return g.node("Mul", [x, g.node("Sigmoid", [steeper], f"{name}.sigmoid")], name)
