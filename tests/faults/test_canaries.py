"""Canary secrets everywhere, real commands that succeed and fail: none is in anything written."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import hub_emulator
from tests.command import RECIPES, child_environment, command_line
from tests.faults import canaries
from tests.hub_emulator import HubEmulator, ServerName

REPO = "acme/demo"
CHECKPOINT = RECIPES / "demo" / "checkpoint"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubEmulator]:
    """A gated repo with the demo's files, behind signed addresses; it takes the canary alone."""
    monkeypatch.setattr(hub_emulator, "SIGNATURE", canaries.SIGNATURE)
    with HubEmulator() as hub:
        files = {path.name: path.read_bytes() for path in CHECKPOINT.iterdir()}
        hub.add(REPO, files, gated=True)
        yield hub


class Runs:
    """Commands in a folder of their own, whose output is kept beside what they write."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.extra = {**canaries.environment(self.home), "HF_ENDPOINT": endpoint}
        self.extra["HF_DEBUG"] = "1"  # the client logs every request
        self.extra["NO_PROXY"] = self.extra["no_proxy"] = "127.0.0.1"
        self.recipe = folder / "demo.yaml"
        text = (RECIPES / "demo.yaml").read_text(encoding="utf-8")
        self.recipe.write_text(text.replace("path: demo/checkpoint", f"repo: {REPO}"))
        self.count = 0

    def __call__(self, *arguments: str | Path) -> int:
        """Run one; its exit code. What it prints is looked through with the files."""
        self.count += 1
        done = subprocess.run(
            command_line(*arguments),
            cwd=self.folder,
            env=child_environment(**self.extra),
            capture_output=True,
            timeout=580,
            check=False,
        )
        (self.folder / f"{self.count}.out").write_bytes(done.stdout)
        (self.folder / f"{self.count}.err").write_bytes(done.stderr)
        return done.returncode

    def log_in_by_address(self) -> None:
        """Have the hub's address hold a password, which goes before the token."""
        login = f"http://canary:{canaries.MIRROR_PASSWORD}@"
        self.extra["HF_ENDPOINT"] = self.extra["HF_ENDPOINT"].replace("http://", login)

    def leaks(self) -> list[str]:
        """The canaries in all that was written."""
        return canaries.found_in(self.folder, but=[self.home / "hf" / "token"])


@pytest.fixture
def runs(tmp_path: Path, hub: HubEmulator) -> Runs:
    return Runs(tmp_path, hub.endpoint)


def test_the_search_finds_what_it_should(tmp_path: Path) -> None:
    secrets = canaries.secrets()
    assert len(secrets) == 10
    for number, secret in enumerate(secrets):
        for shape in canaries.shapes(secret):
            (tmp_path / "file").write_bytes(b"\xff\0" + shape + b"\0")
            assert canaries.found_in(tmp_path) == [f"{tmp_path / 'file'}: {secret}"], number
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "file").rename(tmp_path / f"a{canaries.SIGNATURE}")
    assert len(canaries.found_in(tmp_path)) == 1


def test_a_run_from_a_gated_repo_leaves_no_secret(runs: Runs, hub: HubEmulator) -> None:
    run = ("run", runs.recipe, "--variant", "cpu", "--store", "store", "--out", "out")
    assert runs(*run, "--json", "--debug") == 0
    assert runs("plan", runs.recipe, "--store", "store", "--debug") == 0
    assert runs("lock", runs.recipe, "--store", "store") == 0
    assert runs("inspect", "out/demo", "--json") == 0
    sent = {request.headers.get("authorization") for request in hub.requests}
    assert f"Bearer {canaries.VARIABLES['HF_TOKEN']}" in sent, "the canary was not even used"
    assert any(canaries.SIGNATURE in path for path in hub.paths("cdn"))
    assert len(list(runs.folder.rglob("*"))) > 40
    assert runs.leaks() == []


@pytest.mark.parametrize(
    ("server", "fault", "code"),
    [
        ("cdn", {"status": 403, "body": b"<Error>%s</Error>"}, 5),
        ("hub", {"status": 401, "headers": {"X-Error-Message": "token %s is not valid"}}, 5),
        ("cdn", {"flip_at": 1000}, 6),
    ],
    ids=["403", "401", "flipped"],
)
def test_a_failing_download_shows_no_secret(
    runs: Runs, hub: HubEmulator, server: ServerName, fault: dict[str, Any], code: int
) -> None:
    secret = canaries.VARIABLES["HF_TOKEN"]
    if "body" in fault:
        fault = {**fault, "body": fault["body"].replace(b"%s", secret.encode())}
    if "headers" in fault:
        headers = {name: text.replace("%s", secret) for name, text in fault["headers"].items()}
        fault = {**fault, "headers": headers}
    if server == "cdn":
        runs.log_in_by_address()
    hub.fail(server, "model-00001" if server == "cdn" else "", times=1000, **fault)
    assert runs("download", runs.recipe, "--store", "store", "--json", "--debug") == code
    assert json.loads((runs.folder / "1.out").read_text())["error"]["exit_code"] == code
    assert runs.leaks() == []


def test_a_recipe_that_holds_a_secret_is_refused_without_showing_it(runs: Runs) -> None:
    secret = canaries.VARIABLES["HF_TOKEN"]
    prompts = f"smoke.prompts=[{{text: {json.dumps('say ' + secret)}}}]"
    assert runs("plan", runs.recipe, "--set", prompts, "--debug") == 3
    assert "`smoke.prompts[0].text` holds a token" in (runs.folder / "1.err").read_text()
    assert runs("plan", runs.recipe, "--set", f"source.token={secret}", "--json") == 3
    bad = runs.folder / "bad.yaml"
    bad.write_text(f"name: [{secret}\n")
    assert runs("recipes", "check", bad, "--debug") == 3
    bad.unlink()
    assert runs.leaks() == []


def test_commands_that_make_no_sense_show_no_secret(runs: Runs) -> None:
    secret = canaries.VARIABLES["HF_TOKEN"]
    assert runs("plan", runs.recipe, secret, "--json") == 2
    assert runs("inspect", f"/no/{canaries.TOKEN_FILE}", "--json", "--debug") != 0
    assert runs("migrate", "--command", f"HF_TOKEN='{secret}' trtllm-build --x {secret}") != 0
    assert runs.leaks() == []
