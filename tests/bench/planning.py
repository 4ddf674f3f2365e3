"""Plans of giant sources that hold no bytes: seconds and peak memory of a whole process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.children import PLAN_ONLY, measured
from tests.bench.conversion import is_supported
from tests.bench.sources import LLAMA_70B, MOE_1T, tensors, write_holes

CASES: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("Llama 70B", LLAMA_70B, 30),
    ("1T, 384 experts", MOE_1T, 61),
)
TP_SIZE = 8


def measure(folder: Path) -> Iterator[str]:
    """One line per source."""
    yield f"plans at tp {TP_SIZE}, best of 3"
    for title, config, num_files in CASES:
        if not is_supported(config):
            yield f"  {title:<19} left out: no family for {config['architectures'][0]}"
            continue
        source = folder / "giant"
        size_bytes = write_holes(source, config, num_files)
        given = [str(source), "-", str(TP_SIZE), "bfloat16"]
        runs = [measured(PLAN_ONLY, *given) for _ in range(3)]
        shutil.rmtree(source)
        yield (
            f"  {title:<19} {len(tensors(config)):,} tensors, {size_bytes / 1e9:,.0f} GB: "
            f"{min(run[0] for run in runs):.2f} s, peak {max(run[1] for run in runs):.0f} MB"
        )
