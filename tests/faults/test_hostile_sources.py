"""Source folders of others: links, pipes, devices, files that change. Nothing hangs or leaks."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import MachineError, PipelineError, RecipeError, VerificationError
from pipeline.inspection import inspect_path
from pipeline.progress import Silent
from pipeline.recipe.schema import Source
from pipeline.sources import LocalSource, open_source
from pipeline.sources.digest_memory import DigestMemory
from tests.tiny_source import checkpoint_files

WEIGHTS = "model-00001-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
SECRET = "a line of somebody's private key"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound source checkpoint."""
    for name, data in checkpoint_files().items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "secret").write_text(SECRET)
    return tmp_path / "source"


def fetched(folder: Path) -> dict[str, bytes]:
    """What arrives of a source that is opened, hashed and copied as a run does."""
    memory = DigestMemory(folder.parent / "store")
    source = open_source(Source(path=folder.name), folder.parent, memory, offline=True)
    assert isinstance(source, LocalSource)
    source.checkpoint()
    out = folder.parent / "out"
    out.mkdir()
    source.hashed().fetch(out, Silent())
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.*")}


def linked(name: str, target: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return spoil


def piped(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return spoil


def bound(folder: Path) -> None:
    (folder / "merges.txt").unlink(missing_ok=True)
    here = os.open(folder, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/merges.txt")
    os.close(here)


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "licence outside": (linked("LICENSE", "../secret"), "outside of its folder"),
    "absolute licence": (linked("NOTICE", "/etc/passwd"), "outside of its folder"),
    "tokenizer outside": (linked("tokenizer.json", "../secret"), "outside of its folder"),
    "config outside": (linked("config.json", "../secret"), "outside of its folder"),
    "index outside": (linked(INDEX, "../secret"), "not valid JSON|outside"),
    "two links": (
        lambda folder: [linked("b.txt", "../secret")(folder), linked("NOTICE", "b.txt")(folder)][0],
        "outside of its folder",
    ),
    "of the system": (linked("LICENSE", "/proc/self/environ"), "outside of its folder"),
    "endless": (linked("LICENSE", "/dev/zero"), "not a regular file"),
    "weights of a device": (linked(WEIGHTS, "/dev/zero"), "not a regular file"),
    "weights of the system": (linked(WEIGHTS, "/proc/self/maps"), "not a valid safetensors file"),
    "weights that are no weights": (linked(WEIGHTS, "../secret"), "not a valid safetensors file"),
    "link to itself": (linked("config.json", "config.json"), "is a link to itself"),
    "dangling": (linked(WEIGHTS, "nowhere"), "a link to a file that is not there"),
    "pipe": (piped("tokenizer.json"), "not a regular file"),
    "pipe for a config": (piped("config.json"), "not a regular file"),
    "pipe for an index": (piped(INDEX), "not a regular file"),
    "pipe for weights": (piped(WEIGHTS), "not a regular file"),
    "pipe behind a link": (
        lambda folder: [piped("p")(folder), linked("merges.txt", "p")(folder)][0],
        "not a regular file",
    ),
    "socket": (bound, "not a regular file"),
    "folder": (lambda folder: (folder / "vocab.json").mkdir(), "not a regular file"),
    "templates outside": (
        lambda folder: [
            shutil.rmtree(folder / "additional_chat_templates"),
            (folder.parent / "t").mkdir(),
            (folder.parent / "t" / "x.jinja").write_text(SECRET),
            linked("additional_chat_templates", "../t")(folder),
        ][3],
        "outside of its folder",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_folders_are_refused(name: str, folder: Path) -> None:
    spoil, reason = SPOILT[name]
    spoil(folder)
    with pytest.raises(VerificationError, match=reason) as caught:
        fetched(folder)
    told = "\n".join([caught.value.message, *caught.value.facts, caught.value.hint or ""])
    assert SECRET not in told


@pytest.mark.parametrize("name", ["pipe for a config", "pipe for an index", "pipe for weights"])
def test_inspect_waits_for_no_pipe(name: str, folder: Path) -> None:
    SPOILT[name][0](folder)
    with pytest.raises(PipelineError, match=r"not a regular file|nothing that"):
        inspect_path(folder)


def test_inspect_of_a_pipe_itself(tmp_path: Path) -> None:
    for name in ("m.safetensors", "r.yaml", "m.onnx", "r.tar"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(PipelineError):
            inspect_path(tmp_path / name)


def test_links_that_are_fine(folder: Path) -> None:
    """Inside the folder, weights anywhere, the folder itself; hard links are files."""
    expected = {name: data for name, data in checkpoint_files().items() if name != "README.md"}
    other = folder.parent / "disk"
    other.mkdir()
    (folder / WEIGHTS).rename(other / "blob")
    (folder / WEIGHTS).symlink_to(other / "blob")
    (folder / "config.json").rename(folder / "real.json")
    (folder / "config.json").symlink_to("real.json")
    (folder / "NOTICE.txt").hardlink_to(folder / "LICENSE")
    folder.rename(folder.parent / "moved")
    folder.symlink_to("moved")
    found = fetched(folder)
    assert found[WEIGHTS] == expected[WEIGHTS]
    assert found["config.json"] == expected["config.json"]
    assert found["NOTICE.txt"] == expected["LICENSE"]


def test_a_hub_cache_with_shared_blobs(folder: Path) -> None:
    """snapshots/commit/name -> blobs/etag -> the blobs of the whole cache."""
    cache = folder.parent / "cache"
    snapshot = cache / "models--a--b" / "snapshots" / "commit"
    for number, name in enumerate(sorted(checkpoint_files())):
        link, blob = snapshot / name, cache / "models--a--b" / "blobs" / str(number)
        for path in (link, blob, cache / "blobs" / "x"):
            path.parent.mkdir(parents=True, exist_ok=True)
        (folder / name).rename(cache / "blobs" / str(number))
        blob.symlink_to(os.path.relpath(cache / "blobs" / str(number), blob.parent))
        link.symlink_to(os.path.relpath(blob, link.parent))
    folder.rmdir() if not any(folder.iterdir()) else shutil.rmtree(folder)
    folder.symlink_to(snapshot)
    assert fetched(folder)[WEIGHTS] == checkpoint_files()[WEIGHTS]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["config.json", INDEX, WEIGHTS, "LICENSE"])
def test_unreadable_files(name: str, folder: Path) -> None:
    (folder / name).chmod(0)
    with pytest.raises(MachineError, match="cannot be read"):
        fetched(folder)


def test_a_folder_of_very_many_files(folder: Path) -> None:
    for number in range(20_000):
        (folder / f"LICENSE-{number}").touch() if number < 100 else (folder / f"x{number}").touch()
    (folder / "\udcff\udcfe.jinja").touch()
    assert WEIGHTS in fetched(folder)


def test_names_of_our_own_files_are_never_taken(folder: Path) -> None:
    names = (".journal", "artifact.json", "manifest.json", "SHA256SUMS", "lock.json", "CON", "nul")
    for name in names:
        (folder / name).write_text("{}")
    found = fetched(folder)
    assert found.pop(".journal") != b"{}"  # the one that the copy keeps itself
    assert not set(names) & set(found)


def test_chat_templates_with_bad_names(folder: Path) -> None:
    for name in ("aux.jinja", "a:b.jinja", "b .jinja", "c\n.jinja", "TOOLS.jinja", "\udcff.jinja"):
        (folder / "additional_chat_templates" / name).touch()
    with pytest.raises(VerificationError, match="file names that are refused") as caught:
        fetched(folder)
    told = "\n".join(caught.value.facts)
    assert told.isprintable() or "\n" in told
    assert len(caught.value.facts) == 5  # a space before a dot is a name like any other


@pytest.mark.parametrize("grow", [True, False])
def test_a_file_that_changes_while_it_is_read(grow: bool, folder: Path) -> None:
    """It grows or shrinks all the time: an error, and an end."""
    path, stop = folder / "LICENSE", threading.Event()
    path.write_bytes(bytes(8 << 20))

    def change() -> None:
        with path.open("r+b") as stream:
            while not stop.is_set():
                size = os.fstat(stream.fileno()).st_size
                stream.truncate(min(size + 65536, 1 << 40) if grow else max(size - 65536, 0))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        with pytest.raises(VerificationError, match="change"):
            while True:  # on a busy machine all may be read between two changes
                fetched(folder)
                shutil.rmtree(folder.parent / "out")
    finally:
        stop.set()
        thread.join()


def test_a_source_that_is_no_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nowhere")
    for name in ("pipe", "loop", "gone", "/dev/null", "/proc/self/mem", "x" * 300, "a" * 5000):
        memory = DigestMemory(tmp_path / "store")
        with pytest.raises((RecipeError, MachineError)):
            open_source(Source(path=name), tmp_path, memory, offline=True)
