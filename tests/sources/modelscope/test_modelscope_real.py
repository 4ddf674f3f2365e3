"""The emulated ModelScope against the site's own client, where that is installed.

`pip install modelscope` brings it; no part of the project does. Last run with `modelscope` 1.40.2.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from modelscope_emulator import ModelScopeEmulator, commit_of
from tiny_source import REPO

pytest.importorskip("modelscope_hub", reason="needs ModelScope's own client")

WEIGHTS = "model-00001-of-00002.safetensors"
CLIENT = """
import json, sys
from modelscope import snapshot_download
from modelscope_hub import HubApi
options = json.loads(sys.argv[1])
try:
    snapshot_download(local_dir=sys.argv[2], **options)
except Exception as error:
    print(type(error).__name__, str(error).splitlines()[0])
branches, tags = HubApi().legacy.list_revisions_detail(options["model_id"], "model")
print([row["Revision"] for row in branches], [row["Revision"] for row in tags])
"""


@pytest.fixture
def site() -> Iterator[ModelScopeEmulator]:
    with ModelScopeEmulator() as emulator:
        yield emulator


def download(site: ModelScopeEmulator, home: Path, **options: Any) -> tuple[dict[str, bytes], str]:
    """Files that the client fetched, and what it said."""
    env = {**os.environ, "HOME": str(home), "MODELSCOPE_ENDPOINT": site.endpoint}
    command = [sys.executable, "-c", CLIENT, json.dumps(options), str(home / "out")]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    files = {
        path.relative_to(home / "out").as_posix(): path.read_bytes()
        for path in (home / "out").rglob("*")
        if path.is_file()
    }
    return files, done.stdout + done.stderr


@pytest.mark.parametrize("revision", [None, "master", "v1", "commit"])
def test_it_fetches_every_file(
    revision: str | None, site: ModelScopeEmulator, files: dict[str, bytes], tmp_path: Path
) -> None:
    commit = commit_of(files)
    site.add(REPO, files, tags={"v1": commit})
    wanted = commit if revision == "commit" else revision
    found, said = download(site, tmp_path, model_id=REPO, revision=wanted)
    assert found == files
    assert "['master'] ['v1']" in said
    location = f"/lfs/{REPO}/{hashlib.sha256(files[WEIGHTS]).hexdigest()}"
    assert any(location in path for path in site.paths("cdn"))


def test_its_token_opens_a_private_repo(
    site: ModelScopeEmulator, files: dict[str, bytes], tmp_path: Path
) -> None:
    site.add(REPO, files, token="ms-secret")
    found, said = download(site, tmp_path, model_id=REPO)
    assert found == {}
    assert "HTTPError" in said
    assert "404" in said
    found, _ = download(site, tmp_path, model_id=REPO, token="ms-secret")
    assert found == files


def test_it_goes_on_where_a_connection_broke_off(
    site: ModelScopeEmulator, files: dict[str, bytes], tmp_path: Path
) -> None:
    site.add(REPO, files)
    digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
    site.fail("cdn", digest, cut_at=100_000)
    found, _ = download(site, tmp_path, model_id=REPO)
    assert found == files
    ranges = [r.headers.get("range") for r in site.requests if digest in r.path]
    assert ranges[0] is None
    assert (ranges[1] or "").startswith("bytes=")


@pytest.mark.parametrize("what", [{"model_id": "acme/none"}, {"revision": "nope"}])
def test_it_understands_refusals(
    what: dict[str, str], site: ModelScopeEmulator, files: dict[str, bytes], tmp_path: Path
) -> None:
    site.add(REPO, files)
    found, said = download(site, tmp_path, **{"model_id": REPO, **what})
    assert found == {}
    assert "HTTPError [E3020] [404]" in said
