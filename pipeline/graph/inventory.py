"""Whether the rank files hold what config.json says, before a graph is written from them."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.checkpoint.trtllm import TrtllmCheckpoint, rank_file
from pipeline.errors import VerificationError
from pipeline.families import expected_inventory
from pipeline.weights.inventory import Inventory


def check_inventory(checkpoint: TrtllmCheckpoint) -> None:
    """Raise VerificationError where the rank files hold other tensors than `config.json` asks for.

    Names, shapes and dtypes, missing and unknown ones alike. Norms and biases may be in float32,
    whatever the other weights are in: some converters leave them so.
    """
    faults: list[str] = []
    for rank in range(len(checkpoint.ranks)):
        try:
            expected = expected_inventory(checkpoint.config, rank)
        except ValueError as error:  # a size that the ranks cannot share evenly
            faults.append(f"the sizes of `config.json` do not fit its `mapping`: {error}")
            break
        except KeyError as error:
            faults.append(f"`config.json` has no `{error.args[0]}`")
            break
        faults += _faults(checkpoint, rank, expected)
    if faults:
        raise VerificationError(
            "the rank files do not hold the decoder that `config.json` describes",
            facts=faults,
            hint="convert the source checkpoint again",
        )


def _faults(checkpoint: TrtllmCheckpoint, rank: int, expected: Inventory) -> Iterator[str]:
    held, file = checkpoint.ranks[rank], rank_file(rank)
    for name, (dtype, shape) in expected.items():
        found = held.get(name)
        if found is None:
            yield f"`{name}` is missing from `{file}`"
            continue
        dtypes = (dtype, "float32") if len(shape) == 1 else (dtype,)
        if found.shape != shape or found.dtype not in dtypes:
            has, wanted = list(found.shape), list(shape)
            yield f"`{name}` of `{file}` is {found.dtype} {has}, expected {dtype} {wanted}"
        elif found.dtype != checkpoint.ranks[0].get(name, found).dtype:
            yield f"`{name}` is not of one dtype in all rank files"
    for name in held:
        if name not in expected:
            yield f"`{name}` of `{file}` is not known"
