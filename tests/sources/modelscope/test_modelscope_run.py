"""The whole job from a ModelScope, as a user runs it, through a CDN that fails now and then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from modelscope_emulator import ModelScopeEmulator, commit_of

from tests.command import RECIPES, run_command

REPO = "acme/demo"
CANARY = "ms-1f0c7a52-9e3b-4d6a-8b11-5c2e7d9a4f60"


@pytest.fixture
def checkpoint() -> dict[str, bytes]:
    folder = RECIPES / "demo" / "checkpoint"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def site(checkpoint: dict[str, bytes]) -> Iterator[ModelScopeEmulator]:
    with ModelScopeEmulator() as emulator:
        emulator.add(REPO, checkpoint, token=CANARY)
        yield emulator


def write_recipe(folder: Path) -> Path:
    """The shipped recipe, for any CPU, from a ModelScope."""
    document: dict[str, Any] = yaml.safe_load((RECIPES / "demo.yaml").read_text())
    document["source"] = {"repo": REPO, "hub": "modelscope"}
    document["engine"]["backend"] = "onnxruntime"
    del document["variants"]
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_release_from_a_modelscope(
    site: ModelScopeEmulator, checkpoint: dict[str, bytes], tmp_path: Path
) -> None:
    recipe, commit = write_recipe(tmp_path), commit_of(checkpoint)
    env = {"MODELSCOPE_ENDPOINT": site.endpoint, "MODELSCOPE_API_TOKEN": CANARY}
    place = ("--store", "store", "--out", "out")

    planned = run_command("plan", recipe, "--store", "store", cwd=tmp_path, env=env)
    assert planned.returncode == 0, planned.stderr
    assert f"{REPO} of ModelScope at {commit}" in planned.stdout
    assert site.endpoint in planned.stdout
    assert site.sent_bytes < 200_000

    site.fail("cdn", "/lfs/", cut_at=100_000)
    site.fail("cdn", "/lfs/", flip_at=500_000)
    done = run_command("run", recipe, *place, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr + done.stdout

    release = tmp_path / "out" / "demo"
    manifest = json.loads((release / "manifest.json").read_text())
    source = manifest["lock"]["source"]
    assert (source["kind"], source["repo"], source["commit"]) == ("modelscope", REPO, commit)
    assert manifest["recipe"]["source"] == {"repo": REPO, "hub": "modelscope", "revision": commit}
    assert f"`{REPO}` of ModelScope at `{commit}`" in (release / "README.md").read_text()
    assert run_command("verify", release).returncode == 0

    asked = len(site.requests)
    again = run_command("run", recipe, *place, "--offline", cwd=tmp_path, env=env)
    assert again.returncode == 0, again.stderr + again.stdout
    assert len(site.requests) == asked
    assert {r.server for r in site.requests if "authorization" in r.headers} == {"api"}

    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 20
    assert not [path for path in written if CANARY.encode() in path.read_bytes()]
    assert not [text for text in (planned, done, again) if CANARY in text.stdout + text.stderr]


def test_without_its_token_the_repo_is_refused(site: ModelScopeEmulator, tmp_path: Path) -> None:
    env = {"MODELSCOPE_ENDPOINT": site.endpoint, "MODELSCOPE_API_TOKEN": ""}
    recipe = write_recipe(tmp_path)
    done = run_command("plan", recipe, "--store", "store", cwd=tmp_path, env=env)
    assert done.returncode == 5
    assert "it is private, or its terms must be" in done.stderr
    assert "MODELSCOPE_API_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr
