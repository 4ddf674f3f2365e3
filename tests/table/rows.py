"""One row of the table: an architecture, and what is shown of it here and now."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.checkpoint.trtllm import TrtllmCheckpoint, open_trtllm_checkpoint
from pipeline.engines import find_engine
from pipeline.errors import PipelineError
from pipeline.families import all_families, find_family
from pipeline.graph.config import read_decoder
from pipeline.progress import Silent
from pipeline.recipe.schema import Attention, EngineSettings
from pipeline.weights.layout import plan_conversion
from pipeline.weights.parallel import Parallelism
from pipeline.weights.roundtrip import compare
from tests.families.executing import session
from tests.families.fixtures import FIXTURES, NAMES, open_fixture
from tests.families.references import EVERY, reference, relative_error
from tests.wide_checkpoints import write_wide

TARGETS = ("sm80", "sm86", "sm89", "sm120")
LIMIT = 1e-4
"""Largest relative error of float32 logits that counts as equal."""


@dataclass
class Row:
    """Cells by column; `notes` say why a cell is not a plain yes."""

    architecture: str
    fixture: str
    cells: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def architectures() -> dict[str, str]:
    """Every architecture that a family converts, with a stored checkpoint of it (or its alias)."""
    found = {open_fixture(name).architecture: name for name in reversed(NAMES)}
    rows = {}
    for family in all_families():
        known = next(found[name] for name in family.architectures if name in found)
        rows |= {name: found.get(name, known) for name in family.architectures}
    return dict(sorted(rows.items()))


def make_row(architecture: str, fixture: str, folder: Path) -> Row:
    """Convert, compare, execute and compile one architecture."""
    row = Row(architecture, fixture)
    checkpoint = _converted(row, folder / "checkpoint")
    if checkpoint is not None:
        _executed(row, checkpoint)
    _compiled(row, folder)
    return row


def _converted(row: Row, folder: Path) -> TrtllmCheckpoint | None:
    """Convert in two ranks where they fit, and take the rank files apart again."""
    with _told(row, "converted"):
        source = open_fixture(row.fixture)
        plan = plan_conversion(source, find_family(row.architecture), Parallelism(2), "float32")
        folder.mkdir(parents=True)
        from pipeline.weights.stream import write_checkpoint

        write_checkpoint(plan, FIXTURES / row.fixture, folder, Silent())
        row.cells["converted"] = "yes"
    if "converted" not in row.cells or row.cells["converted"] != "yes":
        return None
    with _told(row, "round trip"):
        compare(plan, FIXTURES / row.fixture, folder, Silent())
        row.cells["round trip"] = "equal"
    return open_trtllm_checkpoint(folder)


def _executed(row: Row, checkpoint: TrtllmCheckpoint) -> None:
    """Logits of a batch of unequal prompts, and of one prompt token by token."""
    wanted = reference(row.fixture)
    with _told(row, "parity"):
        loaded = session(checkpoint, wanted.positions)
        error = relative_error(loaded.start(wanted.prompts), wanted.last_logits)
        row.cells["parity"] = _within(row, "parity", error)
    with _told(row, "decode = prefill"):
        first, *others = wanted.prompts[EVERY]
        steps = [loaded.start([[first]]), *(loaded.step([token]) for token in others)]
        prompt = wanted.prompts[EVERY]
        whole = loaded.start([prompt[: n + 1] for n in range(len(prompt))])
        error = relative_error(np.concatenate(steps), whole.astype(np.float64))
        row.cells["decode = prefill"] = _within(row, "decode = prefill", error)


def _within(row: Row, column: str, error: float) -> str:
    if error > LIMIT:
        row.notes.append(f"{column}: relative error {error:.1e}, above {LIMIT:.0e}")
    return f"{error:.0e}" if error <= LIMIT else f"NO ({error:.0e})"


def _compiled(row: Row, folder: Path) -> None:
    """One engine for all targets, in bfloat16, with wider heads."""
    with _told(row, *TARGETS, "fused"):
        checkpoint = write_wide(folder / "wide", row.fixture)
        attentions = read_decoder(checkpoint.config).attentions.values()
        capped = any(attention.softcap is not None for attention in attentions)
        settings = EngineSettings(
            backend="tensorrt",
            max_batch_size=2,
            max_input_len=24,
            max_seq_len=40,
            targets=TARGETS,
            attention=Attention(context_fmha=not capped, require_fused=not capped),
        )
        (folder / "engine").mkdir()
        engine = find_engine("tensorrt")
        facts = engine.build(checkpoint, settings, folder / "engine", Silent())
        row.cells |= dict.fromkeys(TARGETS, "unfused" if capped else "fused")
        row.cells["fused"] = f"{facts['attention_layers']}/{facts['attention_sites']}"
        if capped:
            row.notes.append(
                "soft-capped attention: TensorRT has no layer for it, so that it is written in "
                "plain operators, unfused, and only where the recipe asks for that"
            )


@contextlib.contextmanager
def _told(row: Row, *columns: str) -> Iterator[None]:
    """A failure becomes the cell's reason."""
    try:
        yield
    except PipelineError as error:
        reason = "; ".join([error.message, *error.facts[:1]])
        row.cells |= dict.fromkeys(columns, "NO")
        row.notes.append(f"{columns[0]}: {reason}")
