"""The client's own settings, which it reads when it is imported: so, in child processes."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

from hub_emulator import HubEmulator
from tiny_source import REPO

from pipeline.artifact import Json

CODE = """
import json, sys
from pathlib import Path
from pipeline.errors import PipelineError
from pipeline.progress import Silent
from pipeline.recipe.schema import Source
from pipeline.sources import open_source
from pipeline.sources.digest_memory import DigestMemory

root, revision, fetch, endpoint = Path(sys.argv[1]), *(text or None for text in sys.argv[2:])
answer = {}
try:
    asked = Source(repo="acme/tiny", revision=revision, endpoint=endpoint)
    source = open_source(asked, root, DigestMemory(root))
    answer["commit"] = source.listing.commit
    answer["architecture"] = source.checkpoint().architecture
    if fetch:
        (root / fetch).mkdir()
        answer["files"] = source.fetch(root / fetch, Silent())
except PipelineError as error:
    answer["error"] = [type(error).__name__, error.message, error.hint]
answer["imported"] = [name for name in ("huggingface_hub", "numpy") if name in sys.modules]
print(json.dumps(answer))
"""


def child(
    root: Path,
    revision: str,
    fetch: str,
    endpoint: str = "",
    stderr: int = subprocess.PIPE,
    **environment: str,
) -> Json:
    """Run the code above; its answer. It must not say anything but that."""
    settings = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    settings |= {"HF_HOME": str(root / "hf"), "NO_PROXY": "127.0.0.1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(root), revision, fetch, endpoint],
        env=settings,
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=stderr,
        check=False,
    )
    assert (done.returncode, done.stderr or b"") == (0, b"")
    return json.loads(done.stdout)


def test_nothing_is_printed_even_on_a_terminal(
    hub: HubEmulator, files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.add(REPO, files)
    hub.fail("hub", "LICENSE", method="HEAD", status=503, times=2)
    ours, theirs = pty.openpty()
    try:
        child(tmp_path, "", "out", stderr=theirs, HF_ENDPOINT=hub.endpoint)
        assert select.select([ours], [], [], 0) == ([], [], [])
    finally:
        os.close(ours)
        os.close(theirs)


def test_settings_of_the_client_hold(
    hub: HubEmulator, files: dict[str, bytes], tmp_path: Path
) -> None:
    repo = hub.add(REPO, files, gated=True)
    refused = child(tmp_path, "", "", HF_ENDPOINT=hub.endpoint)
    assert refused["error"][0] == "RemoteError"
    assert "gated" in refused["error"][1]

    token = "hf_" + "t" * 30
    answer = child(tmp_path, "", "out", HF_ENDPOINT=hub.endpoint, HF_TOKEN=token)
    assert answer["commit"] == repo.commit
    assert len(answer["files"]) == 9
    assert list((tmp_path / "hf" / "hub").glob("models--acme--tiny"))

    asked = len(hub.requests)
    offline = child(tmp_path, "main", "again", HF_ENDPOINT=hub.endpoint, HF_HUB_OFFLINE="1")
    assert offline["files"] == answer["files"]
    assert len(hub.requests) == asked

    # A commit that was planned before needs neither network nor client.
    known = child(tmp_path, repo.commit, "", HF_ENDPOINT="http://127.0.0.1:9")
    assert known["architecture"] == "LlamaForCausalLM"
    assert known["imported"] == []


def tokens(hub: HubEmulator) -> set[str | None]:
    """What the hub was sent, with what is needed only; forgets the requests."""
    assert all("acme/tiny" in request.path for request in hub.requests)
    sent = {r.headers.get("authorization") for r in hub.requests if r.server == "hub"}
    assert {r.headers.get("authorization") for r in hub.requests} - sent <= {None}
    hub.requests.clear()
    return sent


def test_tokens_and_where_they_go(
    hub: HubEmulator, files: dict[str, bytes], tmp_path: Path
) -> None:
    repo, token = hub.add(REPO, files), "hf_" + "t" * 30
    where = tmp_path / "token"
    where.write_text(f"{token}\n")
    known = {"HF_TOKEN_PATH": str(where), "HF_HUB_CACHE": str(tmp_path / "elsewhere")}
    # From a file; the recipe names the client's own endpoint, which changes nothing.
    answer = child(tmp_path, "", "out", f"{hub.endpoint}/", HF_ENDPOINT=hub.endpoint, **known)
    assert answer["commit"] == repo.commit
    assert len(answer["files"]) == 9
    assert tokens(hub) == {f"Bearer {token}"}
    assert (tmp_path / "elsewhere" / "models--acme--tiny").is_dir()
    assert not (tmp_path / "hf" / "hub").exists()

    # A mirror wins over the client's endpoint, and gets no token, wherever that comes from.
    known["HF_TOKEN"] = token
    answer = child(tmp_path / "m", "", "", hub.endpoint, HF_ENDPOINT="http://127.0.0.1:9", **known)
    assert answer["architecture"] == "LlamaForCausalLM"
    assert tokens(hub) == {None}

    known["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
    answer = child(tmp_path / "n", "", "", HF_ENDPOINT=hub.endpoint, **known)
    assert answer["commit"] == repo.commit
    assert tokens(hub) == {None}


def test_offline_as_transformers_calls_it(
    hub: HubEmulator, files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.add(REPO, files)
    answer = child(tmp_path, "", "", HF_ENDPOINT=hub.endpoint, TRANSFORMERS_OFFLINE="1")
    assert "not planned on this machine before" in answer["error"][1]
    assert hub.requests == []


def test_xet_can_be_turned_off(hub: HubEmulator, files: dict[str, bytes], tmp_path: Path) -> None:
    hub.add(REPO, files, xet=True)
    answer = child(tmp_path, "", "out", HF_ENDPOINT=hub.endpoint, HF_HUB_DISABLE_XET="1")
    assert len(answer["files"]) == 9
    assert not [path for path in hub.paths() if "xet-read-token" in path]


def test_how_long_to_wait_is_the_clients_setting(
    hub: HubEmulator, files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.add(REPO, files)
    hub.fail("hub", "/api/models", cut_at=20, ending="stall")
    answer = child(tmp_path, "", "", HF_ENDPOINT=hub.endpoint, HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert answer["architecture"] == "LlamaForCausalLM"
