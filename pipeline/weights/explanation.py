"""How one target tensor is made from which source bytes, rank by rank, for people."""

from __future__ import annotations

import difflib

from pipeline.artifact import Json
from pipeline.errors import UsageError
from pipeline.weights.layout import ConversionPlan
from pipeline.weights.patches import explain


def explanation(plan: ConversionPlan, name: str) -> list[Json]:
    """For each rank file that holds the tensor: its dtype, its shape, and every patch of it.

    Raises UsageError where no rank file does.
    """
    found: list[Json] = []
    for rank in plan.ranks:
        for tensor in rank.tensors:
            if tensor.name == name:
                lines = [explain(patch, tensor.dtype) for patch in tensor.patches]
                shape = list(tensor.shape)
                found.append(
                    {"file": rank.file, "dtype": tensor.dtype, "shape": shape, "made": lines}
                )
    if found:
        return found
    names = sorted({tensor.name for rank in plan.ranks for tensor in rank.tensors})
    near = difflib.get_close_matches(name, names, 3)
    raise UsageError(
        f"no rank file holds `{name}`",
        facts=[f"nearest: {', '.join(f'`{item}`' for item in near)}"] if near else (),
        hint="layers count from 0 in every pp rank; `ledger.json` of a checkpoint has all names",
    )
