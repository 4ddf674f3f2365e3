"""Where the tokens of a step stand, and what each of them sees: shared by all layers.

b = batch, s = seq (tokens of this step), t = cache slots. A token of position `p` lies in slot `p`;
`position_ids` may name other rows of the rotary tables (`rotary_description.uses_two_tables`), so
that masks are made from `write_indices`, never from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.graph.alibi import alibi_slopes, rounded_biases
from pipeline.graph.builder import GraphBuilder, numpy_dtype
from pipeline.graph.description import Alibi, Attention, BlockSparse, LatentAttention
from pipeline.graph.rotary import rotary_tables
from pipeline.graph.rotary_description import Rotary

Form = Literal["mask", "lengths"]


@dataclass(frozen=True, slots=True)
class Visible:
    """What an attention is told of who sees what: an explicit mask, or causality and lengths.

    `mask`: bool or float `[b or 1, heads or 1, s, t]`; None: `lengths`, int64 `[b]`, filled slots.
    """

    mask: str | None
    lengths: str | None = None


class Positions:
    """The graph's inputs for positions, and the values that are worked out from them, once each."""

    def __init__(
        self, g: GraphBuilder, form: Form, max_seq_len: int, slots: int | str, cache: str | None
    ) -> None:
        self._g, self._form, self._max_seq_len = g, form, max_seq_len
        self._slots, self._cache = slots, cache
        self._tables: list[tuple[Rotary, tuple[str, str]]] = []
        self._seen: list[tuple[tuple[object, ...], str]] = []
        self.write_indices = g.input("write_indices", "int64", ["batch"])
        if form == "mask":
            g.input("mask", "bool", ["batch", 1, "seq", slots])

    @property
    def position_ids(self) -> str:
        """int64 `[b, s]`; an input only where something reads it: ALiBi goes by slots."""
        return self._g.shared("position_ids", lambda n: self._g.input(n, "int64", ["batch", "seq"]))

    def rotary(self, rotary: Rotary) -> tuple[str, str]:
        """Cos and sin tables `[rows, dim / 2]`, one pair for equal positions."""
        for known, names in self._tables:
            if known == rotary:
                return names
        g, name = self._g, f"rotary.{len(self._tables)}" if self._tables else "rotary"
        cos, sin = rotary_tables(rotary, self._max_seq_len)
        dtype = numpy_dtype(g.compute_dtype)
        made = (
            g.constant(f"{name}.cos", cos.astype(dtype)),
            g.constant(f"{name}.sin", sin.astype(dtype)),
        )
        self._tables.append((rotary, made))
        return made

    def visible(self, attention: Attention | LatentAttention) -> Visible:
        """What the tokens see in an attention.

        Where lengths are known, causality alone lets ONNX Runtime's CUDA provider take its flash
        kernels; windows and biases need a mask. TensorRT takes a mask or causality but not both,
        and drops lengths without an error.
        """
        window, sparse = attention.window, attention.block_sparse
        if window is not None and window >= self._max_seq_len:
            window = None
        if sparse is not None and sparse.num_local_blocks * sparse.block_size >= self._max_seq_len:
            sparse = None
        if (
            self._form == "lengths"
            and window is None
            and sparse is None
            and attention.alibi is None
        ):
            return Visible(None, self._lengths())
        heads = attention.num_attention_heads
        key = (window, sparse, attention.alibi, heads if sparse or attention.alibi else None)
        for known, name in self._seen:
            if known == key:
                return Visible(name)
        made = self._mask(window, sparse, attention.alibi, heads)
        self._seen.append((key, made))
        return Visible(made)

    def _mask(
        self, window: int | None, sparse: BlockSparse | None, alibi: Alibi | None, heads: int
    ) -> str:
        g, number = self._g, len(self._seen)
        seen = self._causal()
        if window is not None:
            near = g.node(
                "Greater", [self.slot_ids(), self._since(window)], f"window.{number}.near"
            )
            seen = g.node("And", [seen, near], f"window.{number}")
        if sparse is not None:
            wanted = self._block_sparse(sparse, heads, f"block_sparse.{number}")
            seen = g.node("And", [seen, wanted], f"block_sparse.{number}")
        return seen if alibi is None else self._biased(alibi, heads, seen, f"alibi.{number}")

    def _causal(self) -> str:
        """Bool `[b, 1, s, t]`: the input, or what it would be."""
        g = self._g
        if self._form == "mask":
            return "mask"
        return g.shared(
            "causal", lambda name: g.node("LessOrEqual", [self.slot_ids(), self._queries()], name)
        )

    def _lengths(self) -> str:
        g = self._g
        return g.shared("nonpad_kv_seqlen", lambda name: g.input(name, "int64", ["batch"]))

    def slot_ids(self) -> str:
        """int64 `[t]`: 0, 1, ..."""
        g = self._g
        slots = self._slots
        if isinstance(slots, int):
            return g.shared("slot_ids", lambda name: g.constant(name, list(range(slots))))
        return g.shared("slot_ids", self._counted_slots)

    def _counted_slots(self, name: str) -> str:
        g = self._g
        assert self._cache is not None
        dims = g.node("Shape", [self._cache], f"{name}.cache_dims", start=-2, end=-1)
        return self._range(dims, name)

    def _range(self, dims: str, name: str) -> str:
        g = self._g
        count = g.node("Squeeze", [dims], f"{name}.count")
        zero = g.shared("int.zero", lambda n: g.constant(n, np.array(0, np.int64)))
        one = g.shared("int.one", lambda n: g.constant(n, np.array(1, np.int64)))
        return g.node("Range", [zero, count, one], name)

    def _queries(self) -> str:
        """int64 `[b, 1, s, 1]`: the slot of each token of this step."""
        return self._g.shared("query_slots", self._made_queries)

    def _made_queries(self, name: str) -> str:
        g = self._g
        dims = g.node("Shape", ["input_ids"], f"{name}.dims", start=1, end=2)
        steps = self._range(dims, f"{name}.steps")  # [s]
        column = g.constant(f"{name}.column", [-1, 1])
        first = g.node("Reshape", [self.write_indices, column], f"{name}.first")  # [b, 1]
        flat = g.node("Add", [first, steps], f"{name}.flat")  # [b, s]
        axes = g.constant(f"{name}.axes", [1, 3])
        return g.node("Unsqueeze", [flat, axes], name)

    def _since(self, window: int) -> str:
        """int64 `[b, 1, s, 1]`: the last slot that lies before a token's window."""
        g, name = self._g, f"window.{window}.before"

        def make(made: str) -> str:
            size = g.constant(f"{made}.size", np.array(window, np.int64))
            return g.node("Sub", [self._queries(), size], made)

        return g.shared(name, make)

    def _biased(self, alibi: Alibi, heads: int, seen: str, name: str) -> str:
        """Float `[b, heads, s, t]`: the bias where a token sees, the lowest number elsewhere."""
        g = self._g
        made = self._by_position if alibi.in_bfloat16 else self._by_distance
        bias = made(alibi, heads, f"{name}.bias")
        lowest = g.shared("lowest", lambda n: g.number(g.lowest, n))
        return g.node("Where", [seen, bias, lowest], name)

    def _by_distance(self, alibi: Alibi, heads: int, name: str) -> str:
        """Float `[b, heads, s, t]`: a slope times how far back a key lies."""
        g = self._g
        distance = g.node("Sub", [self.slot_ids(), self._queries()], f"{name}.distance")  # <= 0
        far = g.node("Cast", [distance], f"{name}.far", to=g.compute_type)
        slopes = np.array(alibi_slopes(alibi, heads)).reshape(1, heads, 1, 1)
        return g.node("Mul", [far, self._floats(slopes, f"{name}.slopes")], name)

    def _by_position(self, alibi: Alibi, heads: int, name: str) -> str:
        """Float `[1, heads, 1, t]`: looked up by the slot of a key."""
        biases = rounded_biases(alibi, heads, self._max_seq_len)
        table = self._floats(biases.reshape(1, heads, 1, -1), f"{name}.table")
        return self._g.node("Gather", [table, self.slot_ids()], name, axis=3)

    def _floats(self, values: np.ndarray[Any, Any], name: str) -> str:
        return self._g.constant(name, values.astype(numpy_dtype(self._g.compute_dtype)))

    def _block_sparse(self, sparse: BlockSparse, heads: int, name: str) -> str:
        """Bool `[b, heads, s, t]`: which blocks of keys a block of queries sees, causality apart.

        Source: the published code of Phi-3-small (`triton_flash_blocksparse_attn.py`).
        """
        g = self._g
        size = g.constant(f"{name}.size", np.array(sparse.block_size, np.int64))
        rows = g.node("Div", [self._queries(), size], f"{name}.rows")  # [b, 1, s, 1]
        columns = g.node("Div", [self.slot_ids(), size], f"{name}.columns")  # [t]
        between = g.node("Sub", [rows, columns], f"{name}.between")  # [b, 1, s, t]
        count = g.constant(f"{name}.local", np.array(sparse.num_local_blocks, np.int64))
        near = g.node("Less", [between, count], f"{name}.near")
        step = 0 if sparse.homogeneous else max(1, sparse.vertical_stride // heads)
        shift = step * np.arange(heads)
        shifts = (shift + 1).astype(np.int64).reshape(1, heads, 1, 1)
        moved = g.node("Add", [columns, g.constant(f"{name}.shifts", shifts)], f"{name}.moved")
        stride = g.constant(f"{name}.stride", np.array(sparse.vertical_stride, np.int64))
        left = g.node("Mod", [moved, stride], f"{name}.left")  # [1, heads, 1, t]
        zero = g.shared("int.zero", lambda n: g.constant(n, np.array(0, np.int64)))
        vertical = g.node("Equal", [left, zero], f"{name}.vertical")
        return g.node("Or", [near, vertical], f"{name}.seen")
