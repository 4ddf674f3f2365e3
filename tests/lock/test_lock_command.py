"""The command itself: what it writes and says, faults of the disk, several processes at once."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import tempfile
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from pipeline.errors import MachineError, PipelineError
from pipeline.lock.document import encode, lock_path
from pipeline.lock.making import write_lock
from pipeline.lock.reading import decode, find_lock
from tests.command import child_environment, command_line
from tests.lock.conftest import Command
from tests.lock.test_lock_reading import document

STORED = Path(__file__).parent / "stored"


def stored(name: str, text: str) -> None:
    """Compare with the stored text; `TRTLLM_PACK_STORE_EXPECTED=1` writes it anew: read it then."""
    path = STORED / name
    if os.environ.get("TRTLLM_PACK_STORE_EXPECTED"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def write_old(recipe: Path) -> bytes:
    """A lock of another time beside the recipe: other files, other tools, another spelling."""
    before = document()
    before["sources"][0]["files"] = [
        {"path": "LICENSE", "size_bytes": 436, "sha256": "1" * 64},
        {"path": "config.json", "size_bytes": 700, "sha256": "2" * 64},
        {"path": "model.safetensors", "size_bytes": 1_840_576, "sha256": "3" * 64},
    ]
    before["tools"] = {"numpy": "1.26.4", "trtllm-pack": "0.0.9", "torch": "2.9.1"}
    before["build_tools"] = {"onnxruntime": {"onnx": "1.19.0", "onnxruntime": "1.25.0"}}
    data = encode(decode(json.dumps(before).encode(), "x"))
    lock_path(recipe).write_bytes(data)
    return data


@pytest.fixture
def fixed_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed versions that do not change from machine to machine."""

    def version(name: str) -> str:
        if name == "onnxruntime-gpu":
            raise PackageNotFoundError(name)
        return {"numpy": "2.4.6", "onnx": "1.23.2"}.get(name, "1.0")

    monkeypatch.setattr("pipeline.installed.version", version)
    monkeypatch.setattr("pipeline.installed.__version__", "0.1.0")
    runtime = "pipeline.engines.onnxruntime.devices.installed_runtime"
    monkeypatch.setattr(runtime, lambda: ("onnxruntime", "1.32.0"))


def test_the_lock_is_the_stored_one_wherever_it_is_made(
    recipe: Path, command: Command, fixed_versions: None, tmp_path: Path
) -> None:
    assert command("lock", recipe).code == 0
    text = lock_path(recipe).read_text()
    stored("tiny.lock.json", text)
    assert str(tmp_path) not in text
    moved = tmp_path / "moved"
    recipe.parent.rename(moved)
    assert command("lock", moved / recipe.name, store="another").code == 0
    assert lock_path(moved / recipe.name).read_text() == text
    assert lock_path(recipe.with_name("a.b")).name == "a.lock.json"
    assert lock_path(recipe.with_name("a.b.yaml")).name == "a.b.lock.json"


def test_a_diff_that_a_reviewer_can_read(
    recipe: Path, command: Command, fixed_versions: None
) -> None:
    data = write_old(recipe)
    shown = command("lock", recipe, "--check", "--update")
    assert shown.code == 6
    stored("diff.txt", shown.out.replace(f"{recipe.parent}/", ""))
    assert lock_path(recipe).read_bytes() == data
    machines = command("lock", recipe, "--check", "--update", "--json")
    assert machines.code == 6
    told = json.loads(machines.out)
    assert (told["up_to_date"], told["written"], told["existed"]) == (False, False, True)
    files = told["changes"]["sources"][0]["files"]
    assert {file["path"]: file["change"] for file in files}["model.safetensors"] == "removed"

    written = command("lock", recipe, "--update")
    assert written.code == 0
    assert written.out.splitlines()[1:] == shown.out.splitlines()[1:-2]
    assert command("lock", recipe, "--check").code == 0


def test_only_another_spelling_is_told_too(recipe: Path, command: Command) -> None:
    assert command("lock", recipe).code == 0
    right = lock_path(recipe).read_bytes()
    lock_path(recipe).write_text(json.dumps(json.loads(right)))
    shown = command("lock", recipe, "--check")
    assert (shown.code, "the same content, spelt another way" in shown.out) == (6, True)
    assert command("plan", recipe, "--frozen").code == 0
    assert command("lock", recipe).code == 0
    assert lock_path(recipe).read_bytes() == right
    # A checkout on Windows has its own ends of lines, and commits ours.
    lock_path(recipe).write_bytes(right.replace(b"\n", b"\r\n"))
    assert command("lock", recipe, "--check").code == 0


def test_check_without_a_lock_and_with_a_damaged_one(recipe: Path, command: Command) -> None:
    shown = command("lock", recipe, "--check")
    assert (shown.code, lock_path(recipe).exists()) == (6, False)
    assert "does not exist: 1 source, 8 files, 1.9 MB" in shown.out
    for name, arguments in {"lock": (), "plan": (), "download": ("--frozen",)}.items():
        lock_path(recipe).write_bytes(b"{")
        refused = command(name, recipe, *arguments)
        assert refused.code == 6
        assert "`tiny.lock.json` is not valid JSON" in refused.err
        assert "hint: bring it back from version control" in refused.err
        assert lock_path(recipe).read_bytes() == b"{"
    assert command("recipes", "check", recipe).code == 6


def test_recipes_check_fetches_nothing_and_names_what_does_not_fit(
    recipe: Path, command: Command
) -> None:
    assert command("lock", recipe).code == 0
    checked = command("recipes", "check", recipe, "--json")
    assert json.loads(checked.out)["recipes"][0]["lock"] == "tiny.lock.json"
    with recipe.open("a") as stream:
        stream.write("variants: {other: {source: {repo: acme/none, hub: modelscope}}}\n")
    refused = command("recipes", "check", recipe)
    assert refused.code == 3
    assert 'asked, not locked: `acme/none hub="modelscope"`' in refused.err


def test_another_hub_is_asked_for_and_opened_at_its_commit(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import pipeline.sources
    from pipeline.lock.asked import asked_of, pin_of
    from pipeline.recipe.load import load_recipe
    from pipeline.recipe.schema import Source
    from pipeline.sources import SourceListing, open_source
    from pipeline.sources.digest_memory import DigestMemory

    recipe.write_text("name: tiny\nsource: {repo: acme/tiny, hub: modelscope, revision: v1}\n")
    loaded = load_recipe(recipe)
    assert asked_of(loaded) == {"repo": "acme/tiny", "hub": "modelscope", "revision": "v1"}
    locked = {**document()["sources"][1], "asked": asked_of(loaded), "kind": "modelscope"}
    lock = decode(json.dumps({**document(), "sources": [locked]}).encode(), "x")
    pin = pin_of(lock.sources[0], "tiny.lock.json", is_frozen=False)
    opened = []

    def modelscope(source: Source, *_: object) -> SourceListing:
        opened.append((source.repo, source.revision))
        return SourceListing("modelscope", str(source.repo), source.revision, pin.files)

    monkeypatch.setattr(pipeline.sources, "_open_modelscope", modelscope)
    found = open_source(loaded.recipe.source, tmp_path, DigestMemory(tmp_path), pin=pin)
    assert opened == [("acme/tiny", lock.sources[0].commit)]
    assert isinstance(found, SourceListing)
    assert pin.differences(found) == []


@pytest.mark.parametrize(
    ("number", "code", "call"),
    [
        (errno.ENOSPC, 7, "write"),
        (errno.EDQUOT, 7, "fsync"),
        (errno.EROFS, 4, "open"),
        (errno.EACCES, 4, "open"),
        (errno.EIO, 4, "fsync"),
    ],
)
def test_a_lock_that_cannot_be_written_leaves_the_old_one_whole(
    number: int, code: int, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = decode(json.dumps(document()).encode(), "x")
    path = tmp_path / "tiny.lock.json"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched, pytest.raises(PipelineError) as caught:
        patched.setattr(f"pipeline.files.durable.os.{call}", fail)
        write_lock(path, lock)
    assert caught.value.exit_code == code
    assert os.strerror(number) in caught.value.message
    assert caught.value.hint is not None
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [
        ("tiny.lock.json", b"old")
    ]


def test_a_folder_that_is_read_only() -> None:
    lock = decode(json.dumps(document()).encode(), "x")
    user = os.geteuid()
    # The superuser may write anywhere, and its own temporary folders are closed to others.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        try:
            os.seteuid(user or 65534)
            with pytest.raises(MachineError, match="cannot be written: Permission denied"):
                write_lock(Path(name, "tiny.lock.json"), lock)
        finally:
            os.seteuid(user)
        assert list(Path(name).iterdir()) == []
        Path(name).chmod(0o755)


def test_nothing_is_written_through_a_link(recipe: Path, command: Command, tmp_path: Path) -> None:
    target = tmp_path / "target"
    lock_path(recipe).symlink_to(target)
    for name in ("lock", "plan", "download"):  # nor is a lock passed by that was mounted wrongly
        refused = command(name, recipe)
        assert (refused.code, target.exists()) == (4, False)
        assert "is a symbolic link to nothing" in refused.err
    # Reading through one is harmless: mounted configurations come so.
    lock_path(recipe).unlink()
    assert command("lock", recipe).code == 0
    lock_path(recipe).rename(target)
    lock_path(recipe).symlink_to(target)
    assert command("plan", recipe, "--frozen").code == 0
    assert command("lock", recipe).code == 0
    target.write_bytes(target.read_bytes() + b"\n")
    before = target.read_bytes()
    refused = command("lock", recipe)
    assert (refused.code, target.read_bytes()) == (2, before)
    assert "is a symbolic link, which a lock is not written through" in refused.err


def test_processes_that_lock_at_once_leave_one_whole_lock(recipe: Path, tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            command_line("lock", recipe, "--store", tmp_path / f"store-{number % 2}"),
            env=child_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    ended = [(child.communicate(timeout=580), child.returncode) for child in children]
    assert [(said[1], code) for said, code in ended] == [("", 0)] * 3
    names = sorted(entry.name for entry in recipe.parent.iterdir())
    assert names == ["checkpoint", "tiny.lock.json", "tiny.yaml"]
    found = find_lock(recipe)
    assert found is not None
    assert encode(found.lock) == found.data
