"""Hub sources through the real client, against an emulated hub that does nothing wrong."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_emulator import HubEmulator
from tiny_source import NEEDED, REPO, weight_file

from pipeline.errors import RecipeError, RemoteError, VerificationError
from pipeline.progress import Silent
from pipeline.sources.copying import FileDigests, hash_file
from pipeline.sources.remote.source import RemoteSource

Opener = Callable[..., RemoteSource]
WEIGHTS = "model-00001-of-00002.safetensors"
TOKEN = "hf_" + "x" * 30


class Recorder(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.total = 0
        self.counted: list[int] = []
        self.skipped: list[int] = []
        self.notes: list[str] = []

    def start(self, task: str, total: int, unit: str = "bytes") -> None:
        self.total = total

    def advance(self, amount: int) -> None:
        self.counted.append(amount)

    def skip(self, amount: int) -> None:
        self.skipped.append(amount)

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def found_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_branch_becomes_a_commit(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    repo = hub.add(REPO, files)
    listing = open_repo().listing
    assert (listing.kind, listing.where, listing.commit) == ("hub", REPO, repo.commit)
    assert [file.name for file in listing.files] == NEEDED
    identity = listing.identity()
    assert identity is not None
    assert identity["commit"] == repo.commit
    assert open_repo(repo.commit).listing == listing


def test_other_revisions(hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]) -> None:
    repo = hub.add(REPO, files)
    repo.refs["refs/pr/7"] = repo.commit
    assert open_repo("refs/pr/7").listing.commit == repo.commit
    assert hub.paths()[0].startswith("GET /api/models/acme/tiny/revision/refs%2Fpr%2F7?")


def test_the_plan_moves_few_bytes(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    files[WEIGHTS] = weight_file("a", "b", num_bytes=30_000_000)
    hub.add(REPO, files)
    checkpoint = open_repo().checkpoint()
    assert checkpoint.architecture == "LlamaForCausalLM"
    assert checkpoint.tensors["b"].num_bytes == 30_000_000
    assert hub.sent_bytes < 140_000
    assert not any(
        "resolve" in path and path.startswith("HEAD") and "model-0" in path for path in hub.paths()
    )


@pytest.mark.parametrize("content", [b"", b"1234", b"\xff" * 8, b"\x08" + bytes(7) + b"{}"])
def test_a_weight_file_without_a_header(
    content: bytes, hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    hub.add(REPO, {**files, WEIGHTS: content})
    with pytest.raises(VerificationError, match=WEIGHTS):
        open_repo().checkpoint()


def test_a_long_header_takes_a_second_request(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    names = [f"model.layers.{number}.weight" for number in range(3000)]
    files = {name: data for name, data in files.items() if "model" not in name}
    files["model.safetensors"] = weight_file(*names)
    assert struct.unpack("<Q", files["model.safetensors"][:8])[0] > 200_000
    hub.add(REPO, files)
    assert len(open_repo().checkpoint().tensors) == 3000
    assert len(hub.paths("cdn")) == 2


def test_fetch_brings_every_needed_file(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    source.checkpoint()
    progress = Recorder()
    records = source.fetch(out, progress)
    assert found_in(out) == {name: files[name] for name in NEEDED}
    assert records == [
        {
            "name": name,
            "size_bytes": len(files[name]),
            "sha256": hashlib.sha256(files[name]).hexdigest(),
        }
        for name in NEEDED
    ]
    assert progress.notes == []
    assert progress.total == source.listing.total_bytes
    assert sum(progress.counted) + sum(progress.skipped) == progress.total
    # Configs were there since the plan was made.
    assert sum(progress.counted) > 400_000 > sum(progress.skipped) > 0


def test_weights_are_linked_not_copied(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    hub.add(REPO, files)
    open_repo().fetch(out, Silent())
    assert (out / WEIGHTS).stat().st_nlink == 2
    assert not (out / WEIGHTS).is_symlink()


def test_where_links_fail_the_copy_is_compared(
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    monkeypatch.setattr(
        "pipeline.sources.remote.source.place",
        lambda _, target: target.write_bytes(b"something else"),
    )
    with pytest.raises(VerificationError, match=r"the copy of `[^`]+` differs"):
        source.fetch(out, Silent())


def test_only_needed_files_are_asked_for(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    source.checkpoint()
    source.fetch(out, Silent())
    asked = {path.partition("?")[0].rpartition("/")[2] for path in hub.paths()}
    assert asked <= {Path(name).name for name in NEEDED} | {"main"}
    assert not [path for path in hub.paths() if re.search(r"\.(py|bin|pth|md)\b", path)]


def test_the_token_stays_with_the_hub(
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.add(REPO, files, gated=True, private=True)
    source = open_repo()
    source.checkpoint()
    source.fetch(out, Silent())
    sent = {(r.server, r.headers.get("authorization")) for r in hub.requests}
    assert sent == {("hub", f"Bearer {TOKEN}"), ("cdn", None)}
    assert len(hub.paths("cdn")) >= 5


def test_a_known_commit_is_planned_without_a_request(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    repo = hub.add(REPO, files)
    first = open_repo(repo.commit)
    planned = first.checkpoint()
    asked = len(hub.requests)
    again = open_repo(repo.commit, cache="another")
    assert again.listing == first.listing
    assert again.checkpoint() == planned
    assert len(hub.requests) == asked


def test_a_moved_branch_is_seen(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    commits = []
    for terms in (b"free", b"new terms"):
        hub.add(REPO, {**files, "LICENSE": terms})
        commits.append(open_repo().listing.commit)
    assert len(set(commits)) == 2


def test_offline_makes_no_request(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    repo = hub.add(REPO, files)
    source = open_repo()
    source.checkpoint()
    source.fetch(out, Silent())
    asked = len(hub.requests)
    for number, revision in enumerate((repo.commit, None, "main")):
        offline = open_repo(revision, offline=True)
        assert offline.listing == source.listing
        assert offline.checkpoint() == source.checkpoint()
        again = out.parent / f"again{number}"
        again.mkdir()
        offline.fetch(again, Silent())
        assert found_in(again) == found_in(out)
    assert len(hub.requests) == asked


def test_offline_by_the_clients_own_setting(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, files)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RemoteError, match="not planned on this machine before"):
        open_repo()
    assert hub.requests == []


def test_offline_names_what_is_missing(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    repo = hub.add(REPO, files)
    with pytest.raises(RemoteError, match="`main` of `acme/tiny` was not planned") as caught:
        open_repo(offline=True)
    assert "once with network access" in (caught.value.hint or "")
    open_repo()
    offline = open_repo(repo.commit, offline=True)
    with pytest.raises(RemoteError, match=r"`config\.json` of `acme/tiny` is not on this machine"):
        offline.checkpoint()
    open_repo().read_text("config.json")
    open_repo().read_text("tokenizer_config.json")
    with pytest.raises(RemoteError, match="2 weight files") as caught:
        offline.checkpoint()
    assert len(caught.value.facts) == 2
    open_repo().checkpoint()
    assert offline.checkpoint().architecture
    with pytest.raises(RemoteError, match="` of `acme/tiny` is not on this machine"):
        offline.fetch(out, Silent())


def test_headers_come_from_the_cache_where_it_has_them(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    hub.add(REPO, files)
    open_repo().fetch(out, Silent())
    asked = len(hub.paths("cdn"))
    assert open_repo(store="another").checkpoint().weight_files
    assert len(hub.paths("cdn")) == asked


def test_code_is_never_fetched(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    config = {"architectures": ["X"], "auto_map": {"AutoModelForCausalLM": "modeling_tiny.X"}}
    code = {"modeling_tiny.py": b"raise SystemExit(99)"}
    hub.add(REPO, {**files, **code, "config.json": json.dumps(config).encode()})
    opened = open_repo()
    opened.checkpoint()
    opened.fetch(out, Silent())
    assert not [path for path in hub.paths() if path.endswith(".py")]
    assert not list(out.glob("*.py"))


def test_pickle_only_is_refused(hub: HubEmulator, open_repo: Opener) -> None:
    hub.add(REPO, {"config.json": b"{}", "pytorch_model.bin": b"\x80"})
    with pytest.raises(RecipeError, match="pickle only"):
        open_repo()
    assert len(hub.requests) == 1


def test_hostile_names_that_are_not_needed_do_no_harm(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path
) -> None:
    hub.add(REPO, files, extra_names=("../../evil.txt", "/etc/evil", "a\\b", "-x"))
    open_repo().fetch(out, Silent())
    assert sorted(found_in(out)) == NEEDED
    assert not list(out.parent.parent.rglob("*evil*"))


def test_a_name_that_is_listed_twice_is_refused(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    hub.add(REPO, files, extra_names=("config.json",))
    with pytest.raises(VerificationError, match="lists files twice"):
        open_repo()


def test_files_without_digests_are_refused(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes]
) -> None:
    hub.add(REPO, files, hidden_digests=True, lfs=frozenset())
    with pytest.raises(
        (RemoteError, VerificationError), match=r"no size and digest of files|published"
    ):
        open_repo()


def test_nothing_is_printed(
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    out: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    hub.add(REPO, files)
    hub.fail("cdn", WEIGHTS, cut_at=1000)
    source = open_repo()
    source.checkpoint()
    source.fetch(out, Silent())
    assert capfd.readouterr() == ("", "")


class Counted:
    """Counts files that are read to be hashed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        monkeypatch.setattr("pipeline.sources.hub.files.hash_file", self)

    def __call__(self, path: Path, *, git_blob: bool) -> FileDigests:
        self.names.append(path.name)
        return hash_file(path, git_blob=git_blob)


def test_what_was_proved_is_not_read_again(
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.add(REPO, files)
    counted = Counted(monkeypatch)
    times = []
    for number in range(4):
        (tmp_path / f"out{number}").mkdir()
        counted.names.clear()
        open_repo().fetch(tmp_path / f"out{number}", Silent())
        times.append(counted.names.count(WEIGHTS))
        blob = next((tmp_path / "cache").rglob(f"snapshots/*/{WEIGHTS}")).resolve()
        if number == 0:  # as files are that have been there for some time
            os.utime(blob, (1, 1))
        if number == 2:
            blob.write_bytes(files[WEIGHTS][:-1] + b"\xff")
    assert times == [1, 1, 0, 2]
    assert (tmp_path / "out3" / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_a_large_file_is_hashed_while_it_comes(
    hub: HubEmulator,
    open_repo: Opener,
    files: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files[WEIGHTS] = weight_file("a", "b", num_bytes=20_000_000)
    hub.add(REPO, files)
    counted = Counted(monkeypatch)
    for number in range(20):  # a busy machine may begin to look when all is over
        counted.names.clear()
        out = tmp_path / f"out{number}"
        out.mkdir()
        open_repo(cache=f"cache{number}").fetch(out, Silent())
        if WEIGHTS not in counted.names:
            break
    assert WEIGHTS not in counted.names
    assert (out / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_what_killed_clients_left_is_removed_after_a_day(
    hub: HubEmulator, open_repo: Opener, files: dict[str, bytes], out: Path, tmp_path: Path
) -> None:
    hub.add(REPO, files)
    source = open_repo()
    weights = source.listing.find(WEIGHTS)
    assert weights is not None
    blobs = tmp_path / "cache" / "models--acme--tiny" / "blobs"
    names = {
        f"{weights.sha256}.0123abcd.incomplete": True,
        f"{weights.sha256}.0123abce.incomplete": False,
        f"{'e' * 64}.0123abcd.incomplete": True,
    }
    for name, is_old in names.items():
        (blobs / name).write_bytes(b"x")
        if is_old:
            os.utime(blobs / name, (1, 1))
    source.fetch(out, Silent())
    assert [(blobs / name).exists() for name in names] == [False, True, True]
