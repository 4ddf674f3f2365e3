"""Where the tokens of a step stand, and what each of them sees: shared by all layers.

b = batch, s = seq (tokens of this step), t = cache slots. A token of position `p` lies in slot `p`;
`position_ids` may name other rows of the rotary tables (`rotary_description.uses_two_tables`), so
that masks are made from `write_indices`, never from them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from pipeline.graph.builder import GraphBuilder, numpy_dtype
from pipeline.graph.description import Alibi, Attention, BlockSparse, LatentAttention
from pipeline.graph.rotary import rotary_tables
from pipeline.graph.rotary_description import Rotary
from pipeline.graph.visibility import AlibiSize, Visible, biased, block_sparse, near

Form = Literal["mask", "lengths"]


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
        plain = window is None and sparse is None and attention.alibi is None
        if self._form == "lengths" and plain:
            return Visible(None, self._lengths())
        heads = attention.num_attention_heads
        key = (window, sparse, attention.alibi, heads)
        for known, name in self._seen:
            if known == key:
                return Visible(name)
        made = self._mask(window, sparse, attention.alibi, heads)
        self._seen.append((key, made))
        return Visible(made)

    def _mask(
        self, window: int | None, sparse: BlockSparse | None, alibi: Alibi | None, heads: int
    ) -> str:
        g, number, slots = self._g, len(self._seen), self.slot_ids
        seen = self._causal()
        if window is not None:
            close = near(g, slots(), self._queries(), window, f"window.{number}.near")
            seen = g.node("And", [seen, close], f"window.{number}")
        if sparse is not None:
            name = f"block_sparse.{number}"
            wanted = block_sparse(g, slots(), self._queries(), sparse, heads, f"{name}.seen")
            seen = g.node("And", [seen, wanted], name)
        if alibi is None:
            return seen
        size = AlibiSize(heads, self._max_seq_len)
        return biased(g, slots(), self._queries(), alibi, size, seen, f"alibi.{number}")

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
