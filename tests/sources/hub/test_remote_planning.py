"""The command `plan` on a repo of the shape of a 70B model that was never downloaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.bench.loopback_hub import COMMIT, REPO, serving
from tests.bench.remote_planning import write_giant


def test_a_giant_is_planned_by_its_headers(tmp_path: Path) -> None:
    source = tmp_path / "giant"
    claimed_bytes = write_giant(source)
    recipe = tmp_path / "recipe.yaml"
    text = f"name: giant\nsource: {{repo: {REPO}}}\ncheckpoint: {{tp_size: 8}}\n"
    recipe.write_text(text + "engine: {backend: onnxruntime}\n")
    with serving(source, digests=False) as hub:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path / "hf"),
            "NO_PROXY": "127.0.0.1,localhost",
        }
        command = [sys.executable, "-m", "pipeline", "plan", str(recipe), "--json"]
        done = subprocess.run(
            [*command, "--store", str(tmp_path / "store")],
            env=environment,
            stdout=subprocess.PIPE,
            check=False,
        )
        counts = hub.counts()
    document = json.loads(done.stdout)
    assert document["source"]["commit"] == COMMIT
    assert document["source"]["endpoint"] == hub.endpoint
    assert document["source"]["total_bytes"] > claimed_bytes > 140e9
    assert document["checkpoint"]["tp_size"] == 8
    assert len(document["checkpoint"]["rank_bytes"]) == 8
    # The listing, three small files by two requests each, 30 headers through a redirect.
    assert counts["requests"] <= 1 + 2 * 3 + 2 * 30
    assert counts["bytes"] < 400_000
