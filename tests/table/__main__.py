"""`make table`: every architecture, and what is shown of it on this machine, in one table.

Converted (tensor-parallel, two ranks) and compared byte for byte with its source; executed by ONNX
Runtime in float32 and compared with the original model (`tests/fixtures/*/expected.json`); decoded
token by token; compiled by TensorRT, attention not decomposable, for four kinds of GPU. The exit
code is 1 where a cell says no.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.families.references import reference
from tests.table.rows import TARGETS, Row, architectures, make_row

COLUMNS = ("converted", "round trip", "parity", "decode = prefill", *TARGETS, "fused")


def main() -> int:
    """Print the table, then notes and the origin of the references."""
    rows = []
    names = architectures()
    width = max(map(len, names))
    _print("architecture".ljust(width), *(name.rjust(_width(name)) for name in COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        for architecture, fixture in names.items():
            row = make_row(architecture, fixture, Path(folder) / architecture)
            cells = [row.cells.get(name, "-").rjust(_width(name)) for name in COLUMNS]
            _print(architecture.ljust(width), *cells)
            rows.append(row)
    return _close(rows)


def _close(rows: list[Row]) -> int:
    for row in rows:
        for note in row.notes:
            _print(f"{row.architecture}: {note}")
    written = sorted(row.architecture for row in rows if not _by_transformers(row))
    _print(f"{len(rows)} architectures; parity: largest error of logits relative to the largest")
    _print("logit, against transformers; against a model written from the published definition:")
    _print(", ".join(written) or "none")
    bad = [row.architecture for row in rows if _is_bad(row)]
    _print(f"cells that say no, or nothing: {', '.join(bad) or 'none'}")
    return 1 if bad else 0


def _is_bad(row: Row) -> bool:
    return any(row.cells.get(name, "NO").startswith("NO") for name in COLUMNS)


def _by_transformers(row: Row) -> bool:
    return "written for this project" not in reference(row.fixture).origin


def _width(name: str) -> int:
    return max(len(name), 7)


def _print(*cells: str) -> None:
    sys.stdout.write("  ".join(cells) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
