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

root, revision, fetch = Path(sys.argv[1]), sys.argv[2] or None, sys.argv[3]
answer = {}
try:
    source = open_source(Source(repo="acme/tiny", revision=revision), root, DigestMemory(root))
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


def child(root: Path, *arguments: str, stderr: int = subprocess.PIPE, **environment: str) -> Json:
    """Run the code above; its answer. It must not say anything but that."""
    settings = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    settings |= {"HF_HOME": str(root / "hf"), "NO_PROXY": "127.0.0.1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(root), *arguments],
        env=settings,
        cwd=Path(__file__).parents[2],
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
