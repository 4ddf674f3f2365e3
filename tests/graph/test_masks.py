"""Masks against their rule, one query and one key at a time, and attention under them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.graph import masks
from pipeline.graph.builder import GraphBuilder
from tests.graph.part_runs import Array, compile_part, execute, largest_error
from tests.graph.references import attention

# Inputs of the graphs: int64 positions [b, s] and [1, t], ends [b], documents [b, s] and [b, t].
INPUTS: dict[str, tuple[int | str, ...]] = {
    "at": ("b", "s"),
    "keys": ("one", "t"),
    "filled": ("b",),
    "prefix": ("b",),
    "at_document": ("b", "s"),
    "key_document": ("b", "t"),
}
Rule = Callable[[dict[str, Array], int, int, int], bool]
WINDOW = 3


def causal(v: dict[str, Array], b: int, s: int, t: int) -> bool:
    return bool(v["keys"][0, t] <= v["at"][b, s])


def near(v: dict[str, Array], b: int, s: int, t: int) -> bool:
    return causal(v, b, s, t) and bool(v["at"][b, s] - v["keys"][0, t] < WINDOW)


def filled(v: dict[str, Array], b: int, s: int, t: int) -> bool:
    return bool(v["keys"][0, t] < v["filled"][b])


def in_prefix(v: dict[str, Array], b: int, s: int, t: int) -> bool:
    return bool(v["keys"][0, t] < v["prefix"][b])


def same(v: dict[str, Array], b: int, s: int, t: int) -> bool:
    return bool(v["at_document"][b, s] == v["key_document"][b, t])


def packed(g: GraphBuilder, name: str) -> str:
    """Causal inside a document."""
    parts = [
        masks.causal(g, "at", "keys", f"{name}.causal"),
        masks.same_document(g, "at_document", "key_document", f"{name}.document"),
    ]
    return masks.all_of(g, parts, name)


def slots(g: GraphBuilder, name: str) -> str:
    """A bidirectional prefix and documents in a cache that is filled up to its lengths."""
    parts = [
        masks.prefix_causal(g, "at", "keys", "prefix", f"{name}.causal"),
        masks.below(g, "keys", "filled", f"{name}.filled"),
        masks.same_document(g, "at_document", "key_document", f"{name}.document"),
    ]
    return masks.all_of(g, parts, name)


MASKS: dict[str, tuple[Callable[[GraphBuilder, str], str], Rule]] = {
    "causal": (lambda g, n: masks.causal(g, "at", "keys", n), causal),
    "window": (lambda g, n: masks.causal(g, "at", "keys", n, WINDOW), near),
    "filled": (
        lambda g, n: masks.for_queries(g, masks.below(g, "keys", "filled", f"{n}.1"), "at", n),
        filled,
    ),
    "document": (lambda g, n: masks.same_document(g, "at_document", "key_document", n), same),
    "causal and filled": (
        lambda g, n: masks.all_of(
            g,
            [
                masks.causal(g, "at", "keys", f"{n}.1"),
                masks.below(g, "keys", "filled", f"{n}.2"),
            ],
            n,
        ),
        lambda *a: causal(*a) and filled(*a),
    ),
    "prefix": (
        lambda g, n: masks.prefix_causal(g, "at", "keys", "prefix", n),
        lambda *a: causal(*a) or in_prefix(*a),
    ),
    "prefix and window": (
        lambda g, n: masks.prefix_causal(g, "at", "keys", "prefix", n, WINDOW),
        lambda *a: near(*a) or in_prefix(*a),
    ),
    "packed": (packed, lambda *a: causal(*a) and same(*a)),
    "slots": (slots, lambda *a: (causal(*a) or in_prefix(*a)) and filled(*a) and same(*a)),
}
USED = {
    "causal": ("at", "keys"),
    "window": ("at", "keys"),
    "filled": ("at", "keys", "filled"),
    "document": ("at_document", "key_document"),
    "causal and filled": ("at", "keys", "filled"),
    "prefix": ("at", "keys", "prefix"),
    "prefix and window": ("at", "keys", "prefix"),
    "packed": ("at", "keys", "at_document", "key_document"),
    "slots": tuple(INPUTS),
}


def values(rng: np.random.Generator, b: int, s: int, t: int) -> dict[str, Array]:
    """Queries that stand somewhere among the keys, other lengths in every sequence."""
    starts = rng.integers(0, t, (b, 1))
    return {
        "at": starts + np.arange(s),
        "keys": np.arange(t)[None],
        "filled": rng.integers(0, t + 1, b),
        "prefix": rng.integers(0, t + 1, b),
        "at_document": np.sort(rng.integers(0, 3, (b, s))),
        "key_document": np.sort(rng.integers(0, 3, (b, t))),
    }


def rule_mask(kind: str, v: dict[str, Array]) -> Array:
    """`[b, 1, s, t]` by the rule."""
    (b, s), t = v["at"].shape, v["keys"].shape[1]
    rule = MASKS[kind][1]
    seen = [[[rule(v, i, j, k) for k in range(t)] for j in range(s)] for i in range(b)]
    return np.array(seen)[:, None]


def heads_inputs(
    g: GraphBuilder, sizes: dict[str, int], dtype: str, suffix: str = ""
) -> tuple[str, str, str]:
    """Queries, keys and values."""
    heads, kv_heads, size = sizes["heads"], sizes["kv_heads"], sizes["size"]
    q = g.input(f"q{suffix}", dtype, ["b", heads, "s", size])
    k, v = (g.input(f"{n}{suffix}", dtype, ["b", kv_heads, "t", size]) for n in ("k", "v"))
    return q, k, v


def attend(g: GraphBuilder, kind: str, qkv: tuple[str, str, str], form: str) -> tuple[str, str]:
    """The mask and the context under it."""
    mask = given = MASKS[kind][0](g, f"{kind}.{form}.mask")
    if form != "bool":
        bias = "bias" if form == "biased" else None
        given = masks.as_bias(g, mask, bias, f"{kind}.{form}.additive")
    name = f"{kind}.{form}.attend"
    context = g.node("Attention", [*qkv, given], name)
    return mask, masks.blind_to_zero(g, context, mask, f"{kind}.{form}.context")


def graph(kind: str, sizes: dict[str, int], form: str = "bool") -> GraphBuilder:
    """Attention under one mask; outputs: the mask and the context."""
    g = GraphBuilder("float32")
    for name in USED[kind]:
        g.input(name, "int64", [1 if dim == "one" else dim for dim in INPUTS[name]])
    qkv = heads_inputs(g, sizes, "float32")
    if form == "biased":
        g.input("bias", "float32", ["b", sizes["heads"], "s", "t"])
    mask, context = attend(g, kind, qkv, form)
    g.output(mask, "bool", ["b", 1, "s", "t"])
    g.output(context, "float32", ["b", sizes["heads"], "s", sizes["size"]])
    return g


def check(kind: str, form: str, rng: np.random.Generator, sizes: dict[str, int]) -> None:
    b, s, t = sizes["b"], sizes["s"], sizes["t"]
    at = values(rng, b, s, t)
    q = rng.standard_normal((b, sizes["heads"], s, sizes["size"]))
    k, v = rng.standard_normal((2, b, sizes["kv_heads"], t, sizes["size"]))
    bias = rng.standard_normal((b, sizes["heads"], s, t)) if form == "biased" else None
    feeds: dict[str, Any] = {name: at[name] for name in USED[kind]}
    feeds |= {"q": q, "k": k, "v": v} | ({} if bias is None else {"bias": bias})
    singles = {
        n: a.astype(np.int64 if a.dtype.kind == "i" else np.float32) for n, a in feeds.items()
    }
    mask, context = execute(graph(kind, sizes, form), singles)
    seen = rule_mask(kind, at)
    assert np.array_equal(mask, seen)
    right = attention(q, k, v, seen, bias)
    assert np.isfinite(context).all()
    assert np.abs(context - right).max() < 2e-6
    blind = ~seen.any(-1)[:, 0]  # [b, s]
    assert not context.transpose(0, 2, 1, 3)[blind].any()


@pytest.mark.parametrize("form", ["bool", "float", "biased"])
@pytest.mark.parametrize("kind", MASKS)
def test_attention_sees_what_the_rule_says(kind: str, form: str) -> None:
    sizes = {"b": 3, "s": 5, "t": 11, "heads": 6, "kv_heads": 2, "size": 8}
    check(kind, form, np.random.default_rng(9), sizes)


@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(sorted(MASKS)),
    form=st.sampled_from(["bool", "float", "biased"]),
    b=st.integers(1, 3),
    s=st.integers(1, 6),
    t=st.integers(1, 9),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_of_any_size(seed: int, kind: str, form: str, **sizes: int) -> None:
    # One query, one key and queries that see nothing are among them.
    sizes |= {"heads": sizes["kv_heads"] * sizes.pop("group"), "size": 5}
    check(kind, form, np.random.default_rng(seed), sizes)


def test_packed_documents_are_as_if_alone() -> None:
    sizes = {"b": 1, "heads": 4, "kv_heads": 2, "size": 8}
    rng = np.random.default_rng(4)
    q = rng.standard_normal((1, 4, 9, 8)).astype(np.float32)
    k, v = rng.standard_normal((2, 1, 2, 9, 8)).astype(np.float32)
    document = np.array([[0] * 4 + [1] * 5])
    at = {"at": np.arange(9)[None], "keys": np.arange(9)[None]}
    feeds = {**at, "at_document": document, "key_document": document, "q": q, "k": k, "v": v}
    together = execute(graph("packed", sizes), feeds)[1]
    for part in (slice(0, 4), slice(4, 9)):
        alone = {name: value[:, part] for name, value in at.items()}
        alone |= {"q": q[:, :, part], "k": k[:, :, part], "v": v[:, :, part]}
        assert largest_error(together[:, :, part], execute(graph("causal", sizes), alone)[1]) < 1e-6


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_tensorrt_compiles_all_of_them_fused(dtype: str) -> None:
    g = GraphBuilder(dtype)
    for name, of in INPUTS.items():
        g.input(name, "int64", [1 if dim == "one" else dim for dim in of])
    g.input("bias", dtype, ["b", 4, "s", "t"])
    dims = INPUTS | {"bias": ("b", 4, "s", "t")}
    sites = [(kind, form) for kind in MASKS for form in ("bool", "biased")]
    for number, (kind, form) in enumerate(sites):
        # TensorRT for RTX 1.7.1 dies where two attention layers read one input.
        qkv = heads_inputs(g, {"heads": 4, "kv_heads": 2, "size": 64}, dtype, str(number))
        g.output(attend(g, kind, qkv, form)[1], dtype, ["b", 4, "s", 64])
        heads = (4, 2, 2)
        dims |= {n: ("b", h, "s" if h == 4 else "t", 64) for n, h in zip(qkv, heads, strict=True)}
    most = {"b": 2, "s": 12, "t": 32, "one": 1}
    assert compile_part(g, {name: profile(of, most) for name, of in dims.items()}) == len(sites)


def profile(dims: Sequence[int | str], most: dict[str, int]) -> list[list[int]]:
    """Shapes from one query and two keys to the most."""
    least = {"b": 1, "s": 1, "t": 2, "one": 1}
    return [
        [dim if isinstance(dim, int) else of[dim] for dim in dims] for of in (least, most, most)
    ]
