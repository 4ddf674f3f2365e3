"""Sources in a local folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_source import NEEDED

from pipeline.errors import MachineError, RecipeError, VerificationError
from pipeline.files.journal import JOURNAL_NAME
from pipeline.progress import Silent
from pipeline.recipe.schema import Source
from pipeline.sources import LocalSource, open_source
from pipeline.sources.digest_memory import DigestMemory

WEIGHTS = "model-00001-of-00002.safetensors"


@pytest.fixture
def memory(tmp_path: Path) -> DigestMemory:
    return DigestMemory(tmp_path / "store")


Opener = Callable[..., LocalSource]


@pytest.fixture
def open_folder(folder: Path, memory: DigestMemory) -> Opener:
    def opener(where: str = "source", *, hash_local: bool = True) -> LocalSource:
        source = Source(path=where)
        opened = open_source(source, folder.parent, memory, offline=True)
        opened = opened.hashed() if hash_local else opened
        assert isinstance(opened, LocalSource)
        return opened

    return opener


def test_listing_is_relative_to_the_recipe(open_folder: Opener, folder: Path) -> None:
    listing = open_folder().listing
    assert (listing.kind, listing.where, listing.commit) == ("local", "source", None)
    assert [file.name for file in listing.files] == NEEDED
    assert all(file.sha256 for file in listing.files)
    assert open_folder(str(folder)).listing.identity() == listing.identity()


def test_without_hashing_only_remembered_digests_are_known(
    open_folder: Opener, folder: Path
) -> None:
    assert open_folder(hash_local=False).listing.identity() is None
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    whole = open_folder().listing.identity()
    assert whole is not None
    assert open_folder(hash_local=False).listing.identity() == whole


def test_a_file_that_got_its_old_times_back_is_read_again(
    open_folder: Opener, folder: Path
) -> None:
    weights = folder / WEIGHTS
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    before = open_folder().listing.identity()
    data = weights.read_bytes()
    with weights.open("r+b") as stream:  # as `cp -p` and `rsync --inplace` do
        stream.write(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(weights, (1, 1))
    assert open_folder(hash_local=False).listing.identity() is None
    assert open_folder().listing.identity() != before


def test_checkpoint_reads_headers(open_folder: Opener) -> None:
    checkpoint = open_folder().checkpoint()
    assert checkpoint.architecture == "LlamaForCausalLM"
    assert sorted(checkpoint.tensors) == ["a", "b", "c"]
    assert checkpoint.weight_files == (WEIGHTS, "model-00002-of-00002.safetensors")


def test_fetch_copies_what_is_needed(
    open_folder: Opener, files: dict[str, bytes], tmp_path: Path
) -> None:
    source = open_folder()
    out = tmp_path / "out"
    out.mkdir()
    counted: list[int] = []

    class Counting(Silent):
        def advance(self, amount: int) -> None:
            counted.append(amount)

    records = source.fetch(out, Counting())
    found = {p.relative_to(out).as_posix(): p for p in out.rglob("*") if p.is_file()}
    assert found.pop(JOURNAL_NAME)
    assert sorted(found) == NEEDED
    for record in records:
        name = record["name"]
        assert found[name].read_bytes() == files[name]
        assert record["size_bytes"] == len(files[name])
        assert record["sha256"] == source.listing.find(name).sha256  # type: ignore[union-attr]
        assert found[name].stat().st_nlink == 1
        assert not found[name].samefile(source.folder / name)
    assert sum(counted) == source.listing.total_bytes


@pytest.mark.parametrize("change", [lambda data: data + b"x", lambda data: data[:-1] + b"\0"])
def test_a_file_that_changes_after_the_plan_is_refused(
    change: Callable[[bytes], bytes], open_folder: Opener, folder: Path, tmp_path: Path
) -> None:
    source = open_folder()
    (folder / WEIGHTS).write_bytes(change((folder / WEIGHTS).read_bytes()))
    (tmp_path / "out").mkdir()
    with pytest.raises(VerificationError, match="has changed since the plan") as caught:
        source.fetch(tmp_path / "out", Silent())
    assert len(caught.value.facts) == 2


def test_a_wrong_memory_heals(
    open_folder: Opener, folder: Path, memory: DigestMemory, tmp_path: Path
) -> None:
    """Nothing tells that the bytes are others: the copy shows it, and the memory forgets."""
    path = folder / WEIGHTS
    os.utime(path, ns=(0, 10**18))
    known = memory.of_others()
    known.remember(path, known.state(path), "0" * 64)
    for number in (1, 2):
        (tmp_path / f"out{number}").mkdir()
    with pytest.raises(VerificationError):
        open_folder().fetch(tmp_path / "out1", Silent())
    assert open_folder().fetch(tmp_path / "out2", Silent())


def test_links_into_a_hub_cache_are_followed(
    open_folder: Opener, folder: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "snapshots" / "commit"
    for name in NEEDED:
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(folder / name, link.parent))
    linked = open_folder(str(snapshot))
    assert linked.listing.identity() == open_folder().listing.identity()
    (tmp_path / "out").mkdir()
    linked.fetch(tmp_path / "out", Silent())
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_what_is_no_regular_file_is_refused(open_folder: Opener, folder: Path) -> None:
    (folder / "merges.txt").mkdir()
    with pytest.raises(VerificationError, match=r"`merges\.txt` .*not a regular file"):
        open_folder()


def test_a_broken_link_is_refused(open_folder: Opener, folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("nowhere")
    with pytest.raises(VerificationError, match="link to a file that is not there"):
        open_folder()


@pytest.mark.parametrize(("where", "state"), [("nowhere", "does not exist"), ("f", "not a folder")])
def test_no_such_folder(where: str, state: str, open_folder: Opener, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(RecipeError, match=f"`{where}`.*{state}") as caught:
        open_folder(where)
    assert "relative to the recipe" in (caught.value.hint or "")


def test_lfs_pointers_are_recognised(open_folder: Opener, folder: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
    (folder / WEIGHTS).write_text(pointer)
    with pytest.raises(VerificationError, match="Git LFS pointers") as caught:
        open_folder()
    assert caught.value.facts == (f"`{WEIGHTS}`",)
    assert "git lfs pull" in (caught.value.hint or "")


def test_truncated_weight_file(open_folder: Opener, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(VerificationError, match=WEIGHTS):
        open_folder().checkpoint()


def test_a_huge_text_is_not_read(
    open_folder: Opener, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.sources.local.MAX_TEXT_BYTES", 30)
    with pytest.raises(VerificationError, match="more than 30 bytes"):
        open_folder()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(open_folder: Opener, folder: Path) -> None:
    (folder / WEIGHTS).chmod(0)
    with pytest.raises(MachineError, match="cannot be read"):
        open_folder()
