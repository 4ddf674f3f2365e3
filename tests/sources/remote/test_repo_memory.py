"""What is remembered of a commit."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import RecipeError, RemoteError, VerificationError
from pipeline.sources.listing import SourceFile
from pipeline.sources.remote.memory import RepoMemory

COMMIT = "c" * 40
FILES = (SourceFile("config.json", 3, git_blob="b" * 40), SourceFile("é", 4, sha256="a" * 64))


@pytest.fixture
def memory(tmp_path: Path) -> RepoMemory:
    return RepoMemory(tmp_path / "store", "acme/tiny")


def test_everything_comes_back(memory: RepoMemory) -> None:
    assert memory.files(COMMIT) is memory.commit_of("main") is memory.text(COMMIT, "a") is None
    memory.remember_files(COMMIT, FILES)
    memory.remember_commit("refs/pr/1", COMMIT)
    memory.remember_text(COMMIT, "sub/a.jinja", b"\x00text\n")
    memory.remember_head(COMMIT, "m.safetensors", b"head")
    assert memory.files(COMMIT) == FILES
    assert memory.commit_of("refs/pr/1") == COMMIT
    assert memory.text(COMMIT, "sub/a.jinja") == b"\x00text\n"
    assert memory.head(COMMIT, "m.safetensors") == b"head"
    memory.forget_head(COMMIT, "m.safetensors")
    assert memory.head(COMMIT, "m.safetensors") is None


@pytest.mark.parametrize("name", ["refs/main.commit", f"{COMMIT}/files", f"{COMMIT}/texts/a"])
@pytest.mark.parametrize("at", [0, 2, -1])
def test_a_flipped_byte_is_forgotten(name: str, at: int, memory: RepoMemory) -> None:
    memory.remember_commit("main", COMMIT)
    memory.remember_files(COMMIT, FILES)
    memory.remember_text(COMMIT, "a", b"text")
    path = memory.root / "listings" / "acme" / "tiny" / name
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))
    answers = [memory.commit_of("main"), memory.files(COMMIT), memory.text(COMMIT, "a")]
    assert answers.count(None) == 1


def test_an_unwritable_store_forgets(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the store should be")
    memory = RepoMemory(tmp_path / "store", "acme/tiny")
    memory.remember_commit("main", COMMIT)
    assert memory.commit_of("main") is None


def test_no_partial_files_are_left(memory: RepoMemory) -> None:
    memory.remember_text(COMMIT, "x" * 300, b"text")
    memory.remember_text(COMMIT, "a", b"text")
    assert [p.name for p in memory.root.rglob("*") if p.is_file()] == ["a"]


@pytest.mark.parametrize("revision", ["..", ".", "../../x", "a/b", "\n", "%2e", "x" * 400])
def test_a_revision_cannot_leave_the_folder(revision: str, memory: RepoMemory) -> None:
    memory.remember_commit(revision, COMMIT)
    assert memory.commit_of(revision) in {COMMIT, None}
    outside = [p for p in memory.root.parent.rglob("*") if p.is_file() and p.parent.name != "refs"]
    assert outside == []


@pytest.mark.parametrize(
    ("error", "is_forgotten"),
    [(VerificationError("x"), True), (RecipeError("x"), True), (RemoteError("x"), False)],
)
def test_what_proves_wrong_is_forgotten(
    error: Exception, is_forgotten: bool, memory: RepoMemory
) -> None:
    memory.remember_files(COMMIT, FILES)
    memory.remember_text(COMMIT, "a", b"text")
    with pytest.raises(type(error)), memory.doubting(COMMIT):
        raise error
    assert (memory.files(COMMIT) is None) == is_forgotten
    assert (memory.text(COMMIT, "a") is None) == is_forgotten
