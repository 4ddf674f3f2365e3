"""Fixtures of the lock tests: a recipe beside a real checkpoint, an emulated hub, the command."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1]))

from hub_emulator import HubEmulator

import pipeline.sources
from pipeline.cli import app
from pipeline.sources.hub.client import HubClient
from tests.command import RECIPES

LOCAL = """name: tiny
source: {path: checkpoint}
engine: {backend: onnxruntime}
"""

HUB = """name: tiny
source: {repo: acme/tiny}
engine: {backend: onnxruntime}
"""


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def files() -> dict[str, bytes]:
    """A checkpoint that converts and runs: the demo's."""
    return {path.name: path.read_bytes() for path in (RECIPES / "demo" / "checkpoint").iterdir()}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe whose source is the folder beside it."""
    folder = tmp_path / "recipes"
    shutil.copytree(RECIPES / "demo" / "checkpoint", folder / "checkpoint")
    path = folder / "tiny.yaml"
    path.write_text(LOCAL)
    return path


@pytest.fixture
def hub_recipe(recipe: Path) -> Path:
    """The same recipe with its source in the emulated hub."""
    recipe.write_text(HUB)
    return recipe


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in this process, from another folder, with a store of this test."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    def run(*arguments: str | Path, store: str = "store") -> Answer:
        given = [*map(str, arguments), "--store", str(tmp_path / store)]
        done = CliRunner().invoke(app, given if arguments[0] != "recipes" else given[:-2])
        return Answer(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubEmulator]:
    """An emulated hub in place of the real one; the client's cache is of this test."""
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # The hub lives in this process: where one has to wait for it, the machine is busy.
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 120)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 120)
    with HubEmulator() as emulator:

        def client(repo: str, mirror: str | None, **options: Any) -> HubClient:
            assert mirror is None, "no recipe here names an endpoint"
            return HubClient(repo, emulator.endpoint, tmp_path / "cache", **options)

        monkeypatch.setattr(pipeline.sources, "HubClient", client)
        yield emulator


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Versions to pretend, by distribution name; None: not installed."""
    pretended: dict[str, str | None] = {}
    real = metadata.version

    def version(name: str) -> str:
        found = pretended.get(name, "")
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found or real(name)

    monkeypatch.setattr("pipeline.installed.version", version)
    return pretended
