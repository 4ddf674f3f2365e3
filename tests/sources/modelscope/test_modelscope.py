"""Sources on a ModelScope: pinned, listed, planned from headers, fetched, resumed, offline."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from modelscope_emulator import ModelScopeEmulator, commit_of
from modelscope_opening import Counting, Opening
from tiny_source import NEEDED, REPO, weight_file

from pipeline.errors import RemoteError, VerificationError
from pipeline.progress import Silent
from pipeline.recipe.schema import Source
from pipeline.sources import open_source
from pipeline.sources.digest_memory import DigestMemory

WEIGHTS = "model-00001-of-00002.safetensors"


@pytest.fixture
def site() -> Iterator[ModelScopeEmulator]:
    with ModelScopeEmulator() as emulator:
        yield emulator


@pytest.fixture
def opening(site: ModelScopeEmulator, tmp_path: Path) -> Opening:
    return Opening(site, tmp_path)


def fetched(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_only_needed_files_come_and_all_are_proved(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    repo = site.add(REPO, files)
    source = opening()
    listing = source.listing
    assert (listing.kind, listing.repo) == ("modelscope", REPO)
    assert listing.commit == repo.branches["master"]
    assert [file.name for file in listing.files] == NEEDED
    assert source.checkpoint().architecture == "LlamaForCausalLM"
    progress, out = Counting(), opening.out()
    records = source.fetch(out, progress)
    assert fetched(out) == {name: files[name] for name in NEEDED}
    assert [row["name"] for row in records] == NEEDED
    assert all(row["sha256"] == digest(files[row["name"]]) for row in records)
    assert progress.advanced + progress.skipped == listing.total_bytes
    assert opening.stored() == {digest(files[name]): files[name] for name in NEEDED}


def test_the_revision_is_asked_once_and_then_a_commit(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    repo = site.add(REPO, files)
    commit = repo.branches["master"]
    source = opening()
    later = {**files, "config.json": b'{"architectures": ["Other"]}'}
    repo.commits[commit_of(later)] = later
    repo.branches["master"] = commit_of(later)
    source.checkpoint()
    source.fetch(opening.out(), Silent())
    assert (opening.folder / "out" / "config.json").read_bytes() == files["config.json"]
    others = [path for path in site.paths("api") if "commits" not in path]
    assert all(f"Revision={commit}" in path for path in others)


def test_planning_the_same_commit_again_asks_nothing(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    repo = site.add(REPO, files)
    commit = repo.branches["master"]
    opening(commit).checkpoint()
    asked = len(site.requests)
    opening(commit).checkpoint()
    opening(offline=False, revision=commit).read_text("config.json")
    assert len(site.requests) == asked


def test_a_plan_reads_headers_and_no_weights(site: ModelScopeEmulator, opening: Opening) -> None:
    large = weight_file("a", num_bytes=4_000_000)
    site.add(REPO, {"config.json": b'{"architectures": ["X"]}', "model.safetensors": large})
    checkpoint = opening().checkpoint()
    assert [tensor.name for tensor in checkpoint.tensors.values()] == ["a"]
    assert site.sent_bytes < 300_000
    assert not any(len(content) > 1000 for content in opening.stored().values())


def test_heads_of_an_index_are_asked_for_by_their_sizes(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    site.add(REPO, files)
    opening().checkpoint()
    asked = [r.headers["range"] for r in site.requests if r.server == "cdn"]
    assert len(asked) == 2
    assert all(int(value.rpartition("-")[2]) < 2000 for value in asked)


@pytest.mark.parametrize("revision", ["v1", "dev/next", None])
def test_branches_and_tags(
    revision: str | None, site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    other = {**files, "LICENSE": b"other"}
    repo = site.add(REPO, files, tags={"v1": commit_of(other)})
    repo.commits[commit_of(other)] = other
    repo.branches["dev/next"] = commit_of(other)
    expected = commit_of(files if revision is None else other)
    assert opening(revision).commit == expected


def test_a_token_goes_to_the_site_alone(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    site.add(REPO, files, token="ms-secret")
    source = opening(token="ms-secret")
    source.checkpoint()
    source.fetch(opening.out(), Silent())
    seen = {
        (r.server, r.headers.get("authorization"), r.headers.get("cookie")) for r in site.requests
    }
    assert seen == {
        ("api", "Bearer ms-secret", "m_session_id=ms-secret"),
        ("cdn", None, None),
    }


def test_files_of_the_store_are_used_again(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    site.add(REPO, files)
    opening().fetch(opening.out(), Silent())
    asked, progress = len(site.requests), Counting()
    source = opening(commit_of(files))
    source.fetch(opening.out("again"), progress)
    assert len(site.requests) == asked
    assert (progress.advanced, progress.skipped) == (0, source.listing.total_bytes)
    stored = opening.folder / "store/downloads/modelscope" / REPO / digest(files[WEIGHTS])
    assert (opening.folder / "again" / WEIGHTS).samefile(stored)
    assert stored.stat().st_mode & 0o222 == 0


def test_a_damaged_file_of_the_store_is_fetched_anew(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    site.add(REPO, files)
    opening().fetch(opening.out(), Silent())
    stored = opening.folder / "store/downloads/modelscope" / REPO / digest(files[WEIGHTS])
    stored.chmod(0o644)
    stored.write_bytes(bytes(len(files[WEIGHTS])))
    progress = Counting()
    opening().fetch(opening.out("again"), progress)
    assert (opening.folder / "again" / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert progress.notes == [f"`{WEIGHTS}` in the store had wrong content, and was removed"]


def test_offline_makes_no_request(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    site.add(REPO, files)
    source = opening()
    source.checkpoint()
    source.fetch(opening.out(), Silent())
    asked = len(site.requests)
    again = opening(offline=True)
    again.checkpoint()
    again.fetch(opening.out("again"), Silent())
    assert fetched(opening.out("again")) == fetched(opening.out())
    with pytest.raises(RemoteError, match="was not planned on this machine before"):
        opening("v2", offline=True)
    with pytest.raises(RemoteError, match="was not planned on this machine before"):
        opening(offline=True, store="empty")
    assert len(site.requests) == asked


def test_offline_says_which_file_is_missing(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    site.add(REPO, files)
    opening().checkpoint()
    asked = len(site.requests)
    with pytest.raises(RemoteError, match="is not on this machine, and the network is not") as told:
        opening(offline=True).fetch(opening.out(), Silent())
    assert "source.path" in (told.value.hint or "")
    assert len(site.requests) == asked


def test_equal_files_are_fetched_once(site: ModelScopeEmulator, opening: Opening) -> None:
    files = {
        "config.json": b'{"architectures": ["X"]}',
        "generation_config.json": b"{}",
        "tokenizer_config.json": b"{}",
        "model.safetensors": weight_file("a"),
    }
    site.add(REPO, files)
    progress, source = Counting(), opening()
    source.fetch(opening.out(), progress)
    assert fetched(opening.out()) == files
    fetches = [path for path in site.paths("api") if "FilePath=" in path]
    assert sum("generation_config" in p or "tokenizer_config" in p for p in fetches) == 1
    assert progress.advanced + progress.skipped == source.listing.total_bytes


def test_an_empty_file_needs_no_request(site: ModelScopeEmulator, opening: Opening) -> None:
    files = {
        "config.json": b'{"architectures": ["X"]}',
        "LICENSE": b"",
        "model.safetensors": weight_file("a"),
    }
    site.add(REPO, files)
    opening().fetch(opening.out(), Silent())
    assert fetched(opening.out()) == files
    assert not any("LICENSE" in path for path in site.paths())


def test_a_file_goes_on_in_another_process(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    """Killed in the middle of a file: the next process asks for the rest, and proves all of it."""
    site.add(REPO, files)
    source = opening()
    site.fail("cdn", digest(files[WEIGHTS]), stall_at=150_000)
    child = subprocess.Popen(
        [sys.executable, __file__, site.endpoint, str(opening.folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    partial = (
        opening.folder / "store/downloads/modelscope" / REPO / f"{digest(files[WEIGHTS])}.partial"
    )
    try:
        while not (partial.exists() and partial.stat().st_size == 150_000):
            assert child.poll() is None
            time.sleep(0.02)
    finally:
        child.kill()
        child.wait()
    progress = Counting()
    source.fetch(opening.out(), progress)
    assert (opening.out() / WEIGHTS).read_bytes() == files[WEIGHTS]
    ranges = [r.headers.get("range") for r in site.requests if digest(files[WEIGHTS]) in r.path]
    assert ranges == [None, f"bytes=150000-{len(files[WEIGHTS]) - 1}"]
    assert progress.advanced + progress.skipped == source.listing.total_bytes
    assert progress.skipped >= 150_000
    assert not partial.exists()


@pytest.mark.parametrize("leftover", [b"x" * 150_000, b"x" * 9_999_999, b""])
def test_a_wrong_beginning_is_thrown_away(
    leftover: bytes, site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    site.add(REPO, files)
    source = opening()
    folder = opening.folder / "store/downloads/modelscope" / REPO
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{digest(files[WEIGHTS])}.partial").write_bytes(leftover)
    source.fetch(opening.out(), Silent())
    assert (opening.out() / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert set(opening.stored()) == {digest(files[name]) for name in NEEDED}


def test_a_long_list_is_put_together_by_folders(site: ModelScopeEmulator, opening: Opening) -> None:
    files = {
        **{f"a/{number // 2000}/{number}.txt": b"" for number in range(5000)},
        "config.json": b'{"architectures": ["X"]}',
        "model.safetensors": weight_file("a"),
    }
    site.add(REPO, files)
    client = opening.client()
    _, found = client.describe("master")
    assert {file.name for file in found} == set(files)
    assert len(site.requests) < 12


def test_a_folder_that_cannot_be_listed_is_refused(
    site: ModelScopeEmulator, opening: Opening
) -> None:
    site.add(REPO, {f"{number}.txt": b"" for number in range(3000)})
    with pytest.raises(RemoteError, match="more files than ModelScope can list"):
        opening()


def test_a_recipe_names_it(
    site: ModelScopeEmulator,
    files: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", site.endpoint)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "not-written"))
    site.add(REPO, files)
    source = open_source(
        Source(repo=REPO, hub="modelscope"), tmp_path, DigestMemory(tmp_path / "store")
    )
    assert source.listing.identity() == {
        "kind": "modelscope",
        "repo": REPO,
        "commit": commit_of(files),
        "files": [
            {"name": name, "size_bytes": len(files[name]), "sha256": digest(files[name])}
            for name in NEEDED
        ],
    }
    assert source.hashed() is source
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_a_file_without_a_digest_is_refused(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    site.add(REPO, files, changes={"LICENSE": {"Sha256": "abc"}, "README.md": {"Sha256": None}})
    with pytest.raises(
        VerificationError, match="ModelScope publishes no size and digest of files"
    ) as told:
        opening()
    assert told.value.facts == ("`LICENSE`",)
    assert "`MODELSCOPE_ENDPOINT`" in (told.value.hint or "")


def test_a_listing_that_was_wrong_is_asked_for_again(
    site: ModelScopeEmulator, opening: Opening, files: dict[str, bytes]
) -> None:
    """What is remembered of a commit must not stand in the way for ever."""
    repo = site.add(REPO, files, changes={WEIGHTS: {"Sha256": "0" * 64}})
    commit = repo.branches["master"]
    with pytest.raises(VerificationError, match="not what ModelScope published"):
        opening(commit).fetch(opening.out(), Silent())
    repo.changes.clear()
    opening(commit).fetch(opening.out("again"), Silent())
    assert (opening.out("again") / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_a_header_that_lied_is_found_out(site: ModelScopeEmulator, opening: Opening) -> None:
    files = {"config.json": b'{"architectures": ["X"]}', "model.safetensors": weight_file("a")}
    site.add(REPO, files)
    site.fail("cdn", "/lfs/", status=200, body=weight_file("b"))
    source = opening()
    assert list(source.checkpoint().tensors) == ["b"]
    with pytest.raises(VerificationError, match=r"the header of `model.safetensors` differs"):
        source.fetch(opening.out(), Silent())
    assert list(opening().checkpoint().tensors) == ["a"]


if __name__ == "__main__":
    elsewhere: Any = SimpleNamespace(endpoint=sys.argv[1])
    Opening(elsewhere, Path(sys.argv[2])).fetch_one(WEIGHTS)
