"""Parameters that decoders share, by the words of TensorRT-LLM's layers.

The model classes' side of `decoder_rules`. Source: TensorRT-LLM 1.x `layers/linear.py`,
`layers/attention.py`, `layers/mlp.py`, `layers/moe.py`, `layers/embedding.py`.
"""

from __future__ import annotations

from pipeline.formulas import both
from pipeline.weights.inventory import Parameter
from pipeline.weights.rules import Place

LAYER = "transformer.layers.{layer}"
QUERY_ROWS = "num_attention_heads/tp_size*head_size"
QKV_ROWS = f"{QUERY_ROWS} + 2*ceil(num_key_value_heads, tp_size)*head_size"
"""Rounded up: with fewer K/V heads than ranks, each rank has a whole one."""
MLP_ROWS = "intermediate_size/tp_size"
EMBEDDING_PARAMETER = Parameter(
    "transformer.vocab_embedding.weight",
    ("ceil(vocab_size, embedding_row_ranks)", "hidden_size/embedding_column_ranks"),
    on="first",
)
HEAD_PARAMETER = Parameter(
    "lm_head.weight", ("ceil(vocab_size, tp_size)", "hidden_size"), on="last"
)


def linear_parameters(
    name: str, rows: str, columns: str, bias: str | None = None, when: str | None = None
) -> tuple[Parameter, ...]:
    """Weight of a linear as one rank has it, and its bias where the condition `bias` holds."""
    found = [Parameter(f"{name}.weight", (rows, columns), when=when)]
    if bias is not None:
        found.append(Parameter(f"{name}.bias", (rows,), when=both(when, bias)))
    return tuple(found)


def norm_parameters(
    name: str,
    bias: str | None = None,
    size: str = "hidden_size",
    on: Place | None = None,
    when: str | None = None,
) -> tuple[Parameter, ...]:
    """Weight of a norm, and its bias where the condition `bias` holds."""
    found = [Parameter(f"{name}.weight", (size,), on=on, when=when)]
    if bias is not None:
        found.append(Parameter(f"{name}.bias", (size,), on=on, when=both(when, bias)))
    return tuple(found)


def attention_parameters(
    bias: str | None = None, dense_bias: str | None = None, when: str | None = None
) -> tuple[Parameter, ...]:
    """`attention.qkv` and `attention.dense`; `dense_bias` None: as `bias`."""
    return (
        *linear_parameters(f"{LAYER}.attention.qkv", QKV_ROWS, "hidden_size", bias, when),
        *linear_parameters(
            f"{LAYER}.attention.dense", "hidden_size", QUERY_ROWS, dense_bias or bias, when
        ),
    )


def mlp_parameters(
    gated: bool = True,
    bias: str | None = None,
    when: str | None = None,
    rows: str = MLP_ROWS,
    name: str = f"{LAYER}.mlp",
) -> tuple[Parameter, ...]:
    """`fc`, `gate` (of a gated MLP) and `proj`."""
    columns = ("fc", "gate") if gated else ("fc",)
    found: list[Parameter] = []
    for column in columns:
        found += linear_parameters(f"{name}.{column}", rows, "hidden_size", bias, when)
    return (*found, *linear_parameters(f"{name}.proj", "hidden_size", rows, bias, when))


def expert_parameters(
    size: str = "intermediate_size", count: str = "moe.num_experts", when: str | None = None
) -> tuple[Parameter, ...]:
    """Router (float32) and stacked experts of a gated mixture."""
    local, rows = f"({count})/moe_ep_size", f"({size})/moe_tp_size"
    return (
        Parameter(f"{LAYER}.mlp.router.weight", (count, "hidden_size"), "float32", when=when),
        Parameter(f"{LAYER}.mlp.fc.weight", (local, f"2*({rows})", "hidden_size"), when=when),
        Parameter(f"{LAYER}.mlp.proj.weight", (local, "hidden_size", rows), when=when),
    )
