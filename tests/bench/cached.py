"""A run that finds everything in its store: seconds of a whole process, at 2 MB and at 100 GB.

The large artifact is a hole: the converted checkpoint of the demo recipe, with its rank file grown
to 100 GB and its manifest told so. Nothing reads its bytes, which is what is shown.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

ROUNDS = 5
LARGE_BYTES = 100 * 10**9
ROOT = Path(__file__).parents[2]


def measure(folder: Path) -> Iterator[str]:
    """Medians of a cached run over both stores, in turn, and of looking into the larger one."""
    run = ("run", str(ROOT / "recipes" / "demo.yaml"), "--set", "engine.backend=onnxruntime")
    for size in ("small", "large"):
        _command(folder / size, *run)
    _grow(folder / "large")
    yield f"cached runs, medians of {ROUNDS}"
    asked = {
        "a store of 18 MB": (folder / "small", run),
        "with one artifact of 100 GB": (folder / "large", run),
        "`cache ls` of that store": (folder / "large", ("cache", "ls")),
        "`cache gc` of that store": (folder / "large", ("cache", "gc", "--older-than", "1d")),
        "--version": (folder / "small", ("--version",)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(ROUNDS):
        for name, (store, command) in asked.items():
            seconds[name].append(_command(store, *command))
    first = median(seconds["a store of 18 MB"])
    for name, found in seconds.items():
        yield f"  {name:<29} {median(found):.2f} s ({median(found) / first:.2f} x)"


def _command(store: Path, *arguments: str) -> float:
    """Seconds that a command takes, which must end well."""
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        env={**os.environ, "TRTLLM_PACK_STORE": str(store.absolute())},
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return time.perf_counter() - begun


def _grow(store: Path) -> None:
    """Make the rank file a hole of the large size, in all manifests of artifacts that link it."""
    (rank,) = store.glob("artifacts/convert/*/rank0.safetensors")
    rank.chmod(0o644)
    os.truncate(rank, LARGE_BYTES)
    for manifest in store.glob("artifacts/*/*/artifact.json"):
        document = json.loads(manifest.read_bytes())
        for entry in document["files"]:
            if (manifest.parent / entry["path"]).samefile(rank):
                entry["size_bytes"] = LARGE_BYTES
        manifest.chmod(0o644)
        manifest.write_text(json.dumps(document))
