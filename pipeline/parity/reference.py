"""The logits of transformers on a source checkpoint, computed in a child process.

torch's memory goes back when the child ends, before the graph takes its own, and whatever
transformers prints, downloads or breaks stays there. The child has no network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifact import Json
from pipeline.engines.child_process import run_child
from pipeline.files.scratch import scratch_folder
from pipeline.sources.remote_code import check_code_folder

if TYPE_CHECKING:
    from pipeline.parity.comparison import Logits

CHILD = "pipeline.parity.reference_child"

EXTRA = "verify"

_FIRST_NUMBER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")


@dataclass(frozen=True, slots=True)
class SourceModel:
    """The source checkpoint, as far as transformers needs to be told about it.

    `dropped`: its tensors that conversion drops by name, which transformers need not know. `code`:
    the Python files in it that are executed, with their SHA-256; the recipe names them.
    """

    path: Path
    num_layers: int
    dropped: tuple[str, ...]
    code: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reference:
    """What transformers gave: float32 `[tokens, vocab_size]` of each sequence, and what it was."""

    logits: list[Logits]
    executed_by: Mapping[str, Json]


def why_no_reference() -> str | None:
    """Which packages are not installed, or None; imports nothing."""
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if not missing:
        return None
    named = " and ".join(f"`{name}`" for name in missing)
    return f"{named} {'is' if len(missing) == 1 else 'are'} not installed"


def reference_logits(
    model: SourceModel, sequences: Sequence[Sequence[int]], num_layers: int
) -> Reference:
    """The logits of the first `num_layers` layers, final norm and head, each sequence by itself.

    Weights as they are stored, cast to float32; eager attention. Raises ToolFailed where
    transformers cannot load the source, or takes its tensors for others than conversion does, and
    ResourceError where memory is short.
    """
    import numpy as np

    if model.code:
        check_code_folder(model.code, model.path)
    job = {
        "source": str(model.path.resolve()),
        "layers": num_layers,
        "of_layers": model.num_layers,
        "dropped": list(model.dropped),
        "has_code": bool(model.code),
        "sequences": [list(tokens) for tokens in sequences],
    }
    with scratch_folder() as folder:
        finished = run_child(CHILD, job, folder, _ignore, who="transformers")
        logits = [np.load(folder / logits_name(i)) for i in range(len(sequences))]
    code = {"code": dict(model.code)} if model.code else {}
    return Reference(logits, {**finished.result["executed_by"], **code})


def logits_name(number: int) -> str:
    """The file that the child writes for a sequence."""
    return f"logits-{number}.npy"


def _ignore(event: Mapping[str, Any]) -> None:
    """The child has nothing to tell before its end."""


def loading_faults(
    info: Mapping[str, Any], num_layers: int, dropped: Sequence[str]
) -> Iterator[str]:
    """What is amiss in transformers' loading report: it fills up and leaves out without an error.

    Tensors of later layers are left out on purpose, and those that conversion drops have no
    meaning. (`missing_keys`, `unexpected_keys`, `mismatched_keys`: transformers 5.24,
    `modeling_utils.py`, `output_loading_info`.)
    """
    for name in sorted(info["missing_keys"]):
        yield f"`{name}` is not in the source, and would be random"
    for entry in sorted(map(str, info["mismatched_keys"])):
        yield f"`{entry}` is of another shape than the model wants"
    for name in sorted(info["unexpected_keys"]):
        number = _FIRST_NUMBER.search(name)
        is_later = number is not None and int(number[1]) >= num_layers
        if not is_later and not any(_is_same(name, other) for other in dropped):
            yield f"`{name}` is in the source, but transformers does not read it"


def _is_same(name: str, other: str) -> bool:
    """Whether two names differ at most by the name of the inner model before one of them."""
    return name == other or name.endswith(f".{other}") or other.endswith(f".{name}")
