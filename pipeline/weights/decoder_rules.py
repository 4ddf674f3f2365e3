"""Rules that decoders share, by the words of TensorRT-LLM's layers.

A column linear's rows are shared by the ranks, a row linear's columns; its bias is added once,
after the ranks' results are summed, so it is whole on each. Source: TensorRT-LLM 1.x
`layers/linear.py`, `layers/attention.py`, `layers/mlp.py`, `layers/moe.py`, `layers/embedding.py`.
Every function gives a tuple, to be unpacked into a weight map.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.formulas import both
from pipeline.weights.rules import Change, Drop, Make, Part, Pick, Place, Shard, WeightRule

LAYER = "transformer.layers.{layer}"
Q_SIZE = "num_attention_heads*head_size"
KV_SIZE = "num_key_value_heads*head_size"
QUERIES = Shard(0, "num_attention_heads")
KEYS = Shard(0, "num_key_value_heads", replicate=True)
"""With fewer K/V heads than ranks, a rank gets a whole head that others have too."""
Rules = tuple[WeightRule, ...]


def norm(
    source: str,
    target: str,
    bias: str | None = None,
    size: str = "hidden_size",
    on: Place | None = None,
    when: str | None = None,
    change: Change | None = None,
) -> Rules:
    """A norm's weight, and its bias where the condition `bias` holds; whole on every rank."""
    weight = Make(f"{target}.weight", (Part(f"{source}.weight", (size,), change=change),), on=on)
    rules = [replace(weight, when=when)]
    if bias is not None:
        part = Part(f"{source}.bias", (size,))
        rules.append(Make(f"{target}.bias", (part,), on=on, when=both(when, bias)))
    return tuple(rules)


def column_linear(
    sources: str | tuple[str, ...],
    target: str,
    rows: str = "intermediate_size",
    columns: str = "hidden_size",
    bias: str | None = None,
    when: str | None = None,
    shard: Shard | None = None,
    transposed: bool = False,
) -> Rules:
    """A linear whose rows are shared, one by one without `shard`. Several sources are stacked."""
    names = (sources,) if isinstance(sources, str) else sources
    shards = (shard or Shard(0, rows),)
    shape = (columns, rows) if transposed else (rows, columns)
    weights = tuple(Part(f"{n}.weight", shape, shards, transposed=transposed) for n in names)
    rules = [Make(f"{target}.weight", weights, when=when)]
    if bias is not None:
        biases = tuple(Part(f"{name}.bias", (rows,), shards) for name in names)
        rules.append(Make(f"{target}.bias", biases, when=both(when, bias)))
    return tuple(rules)


def row_linear(
    source: str,
    target: str,
    columns: str = "intermediate_size",
    rows: str = "hidden_size",
    bias: str | None = None,
    when: str | None = None,
    unit: str | None = None,
    transposed: bool = False,
) -> Rules:
    """A linear whose columns are shared, in pieces of `unit`; its bias is whole on every rank."""
    shape = (columns, rows) if transposed else (rows, columns)
    part = Part(f"{source}.weight", shape, (Shard(1, unit or columns),), transposed=transposed)
    rules = [Make(f"{target}.weight", (part,), when=when)]
    if bias is not None:
        rules.append(
            Make(f"{target}.bias", (Part(f"{source}.bias", (rows,)),), when=both(when, bias))
        )
    return tuple(rules)


def qkv(
    queries: str,
    keys: str,
    values: str,
    bias: str | None = None,
    when: str | None = None,
    target: str = f"{LAYER}.attention.qkv",
) -> Rules:
    """Queries, keys and values from three linears, in the order in which TensorRT-LLM stacks them.

    `bias` is the condition for their biases.
    """

    def parts(kind: str, *tail: str) -> tuple[Part, ...]:
        return (
            Part(f"{queries}.{kind}", (Q_SIZE, *tail), (QUERIES,)),
            Part(f"{keys}.{kind}", (KV_SIZE, *tail), (KEYS,)),
            Part(f"{values}.{kind}", (KV_SIZE, *tail), (KEYS,)),
        )

    rules = [Make(f"{target}.weight", parts("weight", "hidden_size"), when=when)]
    if bias is not None:
        rules.append(Make(f"{target}.bias", parts("bias"), when=both(when, bias)))
    return tuple(rules)


def fused_qkv(
    source: str,
    groups: str = "1",
    bias: str | None = None,
    when: str | None = None,
    transposed: bool = False,
    target: str = f"{LAYER}.attention.qkv",
) -> Rules:
    """Queries, keys and values from one linear.

    Its rows are `groups` groups, each of its share of query heads, then of key heads, then of value
    heads: "1" for all queries first, "num_key_value_heads" for one group per K/V head (which for
    multi-head attention is one per head).
    """
    q, kv = f"({Q_SIZE})/({groups})", f"({KV_SIZE})/({groups})"
    all_rows = f"{Q_SIZE} + 2*{KV_SIZE}"
    bounds = (("0", q), (q, f"{q} + {kv}"), (f"{q} + {kv}", f"{q} + 2*{kv}"))
    shards = (QUERIES, KEYS, KEYS)

    def parts(kind: str) -> tuple[Part, ...]:
        shape: tuple[str, ...] = (all_rows,) if kind == "bias" else (all_rows, "hidden_size")
        flip = transposed and kind == "weight"
        shape = tuple(reversed(shape)) if flip else shape
        dim = 1 if flip else 0
        return tuple(
            Part(f"{source}.{kind}", shape, (shard,), Pick(dim, groups, *bound), transposed=flip)
            for shard, bound in zip(shards, bounds, strict=True)
        )

    rules = [Make(f"{target}.weight", parts("weight"), when=when)]
    if bias is not None:
        rules.append(Make(f"{target}.bias", parts("bias"), when=both(when, bias)))
    return tuple(rules)


def embedding(
    source: str,
    target: str = "transformer.vocab_embedding.weight",
    when: str | None = None,
) -> Rules:
    """The embedding, shared only where the recipe asks for a parallel one."""
    shards = (
        Shard(0, "vocab_size", pad=True, over="embedding_rows"),
        Shard(1, "hidden_size", over="embedding_columns"),
    )
    part = Part(source, ("vocab_size", "hidden_size"), shards)
    return (Make(target, (part,), on="first", when=when),)


def head(
    source: str,
    embedding: str,
    tied: str = "tie_word_embeddings",
    when: str | None = None,
) -> Rules:
    """The head, padded to a multiple of the ranks; for a tied model made from the embedding.

    Always written: where TensorRT-LLM does not merge the two (tp or pp over 1), a head that is left
    out is filled with random values, silently.
    """
    shape, shards = ("vocab_size", "hidden_size"), (Shard(0, "vocab_size", pad=True),)
    own, shared = Part(source, shape, shards), Part(embedding, shape, shards)
    return (
        Make("lm_head.weight", (own,), on="last", when=both(when, f"not ({tied})")),
        Make("lm_head.weight", (shared,), on="last", when=both(when, tied)),
        Drop(source, "the head is tied to the embedding", same_as=embedding, when=tied),
    )


def experts(
    fc: tuple[Part, ...],
    proj: Part,
    size: str = "intermediate_size",
    count: str = "moe.num_experts",
    when: str | None = None,
) -> Rules:
    """Stacked experts: `fc` are the up projection, then the gate; shared over moe_tp and moe_ep.

    TensorRT-LLM's order is the reverse of the usual one (`layers/moe.py`).
    """
    rows = tuple(replace(part, shards=(Shard(0, size, over="moe_tp"),)) for part in fc)
    columns = replace(proj, shards=(Shard(1, size, over="moe_tp"),))
    return (
        Make(f"{LAYER}.mlp.fc.weight", rows, experts=count, when=when),
        Make(f"{LAYER}.mlp.proj.weight", (columns,), experts=count, when=when),
    )


def router(source: str, when: str | None = None, count: str = "moe.num_experts") -> Rules:
    """The router's weight, always float32, whole on every rank."""
    part = Part(f"{source}.weight", (count, "hidden_size"))
    return (Make(f"{LAYER}.mlp.router.weight", (part,), when=when, dtype="float32"),)
