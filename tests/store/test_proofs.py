"""Artifacts that are reused without being read, and those that are read whole first."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from published import KEY, publish

from pipeline.artifact import MANIFEST_NAME, Artifact, read_artifact
from pipeline.errors import VerificationError
from pipeline.progress import Progress, Silent
from pipeline.store import Store
from pipeline.store.catalogue import list_artifacts
from pipeline.store.checking import check_artifacts
from pipeline.store.proofs import UNITS_NS

FILES = {"a.bin": b"abc", "sub/b.bin": b"defg"}
TIME_NS = 1_700_000_001_987_654_321


def is_read(store: Store, artifact: Artifact) -> bool:
    """Whether all bytes of an artifact are read before it is reused."""
    told: list[None] = []

    def reading() -> Progress:
        told.append(None)
        return Silent()

    store.prove(artifact, reading)
    return bool(told)


def flip(path: Path) -> None:
    """Write another byte, as a user does who has a release by hard links."""
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    os.utime(path, ns=(TIME_NS, TIME_NS))


def test_what_was_published_here_is_not_read(store: Store) -> None:
    made = publish(store, FILES)
    store.note_use(made)
    assert not is_read(store, made)


def test_a_file_that_was_written_to_is_found(store: Store) -> None:
    made = publish(store, FILES)
    flip(made.path / "sub" / "b.bin")
    for _ in range(2):
        with pytest.raises(VerificationError, match="damaged") as caught:
            is_read(store, made)
        assert caught.value.facts[0].startswith("`sub/b.bin` is changed: BLAKE3 ")


def test_other_times_cost_one_reading(store: Store) -> None:
    made = publish(store, FILES)
    os.utime(made.path / "a.bin", ns=(TIME_NS, TIME_NS))
    assert is_read(store, made)
    assert not is_read(store, made)


@pytest.mark.parametrize("unit_ns", UNITS_NS)
def test_a_time_that_was_rounded_down_by_a_copy_is_the_same(store: Store, unit_ns: int) -> None:
    made = publish(store, FILES)
    for name in FILES:
        time_ns = (made.path / name).stat().st_mtime_ns // unit_ns * unit_ns
        os.utime(made.path / name, ns=(time_ns, time_ns))
    assert not is_read(store, made)


@pytest.mark.parametrize("with_times", [True, False])
def test_a_copied_store(store: Store, tmp_path: Path, with_times: bool) -> None:
    made = publish(store, FILES)
    os.utime(made.path / "a.bin", ns=(TIME_NS, TIME_NS))
    assert is_read(store, made)
    copy = shutil.copy2 if with_times else shutil.copyfile
    shutil.copytree(store.root, tmp_path / "copy", copy_function=copy)
    copied = Store(tmp_path / "copy")
    found = copied.find("convert", KEY)
    assert found is not None
    assert is_read(copied, found) is not with_times
    assert not is_read(copied, found)


@pytest.mark.parametrize("knows", [True, False])
def test_a_shared_tier_is_never_written(store: Store, tmp_path: Path, knows: bool) -> None:
    made = publish(store, FILES)
    if not knows:
        shutil.rmtree(store.root / "uses")
    before = sorted(store.root.rglob("*"))
    own = Store(tmp_path / "own", (store.root,))
    assert is_read(own, made) is not knows
    assert not is_read(own, made)
    assert sorted(store.root.rglob("*")) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"manifest": 1, "times": 2}', '{"times": {}}'])
def test_a_note_that_makes_no_sense_is_none(store: Store, text: str) -> None:
    made = publish(store, FILES)
    (store.root / "uses" / "convert" / KEY).write_text(text)
    assert is_read(store, made)
    assert not is_read(store, made)


def test_a_store_that_cannot_be_written_is_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = publish(store, FILES)
    shutil.rmtree(store.root / "uses")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pipeline.store.proofs.write_atomic", refuse)
    assert is_read(store, made)
    assert is_read(store, made)


def test_a_changed_manifest_is_found_by_runs_and_checks(store: Store) -> None:
    made = publish(store, FILES)
    manifest = made.path / MANIFEST_NAME
    manifest.chmod(0o644)
    manifest.write_text(manifest.read_text().replace('"num": 1', '"num": 2'))
    found = read_artifact(made.path)
    assert found.facts == {"num": 2}
    with pytest.raises(VerificationError, match="damaged") as caught:
        is_read(store, found)
    assert caught.value.facts == ("`artifact.json` is changed, its files are not",)
    (checked,) = check_artifacts(list_artifacts(store.root), Silent())
    assert checked.faults == caught.value.facts


def test_an_artifact_that_another_process_made_anew_is_not_taken_for_a_changed_one(
    store: Store,
) -> None:
    made = publish(store, FILES)
    use = store.root / "uses" / "convert" / KEY
    noted = json.dumps(json.loads(use.read_bytes()) | {"times": dict.fromkeys(FILES, TIME_NS)})
    shutil.rmtree(made.path)
    again = publish(store, {"a.bin": b"abd", "sub/b.bin": b"defg"})
    use.write_text(noted)
    assert not is_read(store, again)
    assert use.read_text() != noted
    flip(again.path / "a.bin")
    with pytest.raises(VerificationError, match="damaged"):
        is_read(store, again)


def test_what_was_checked_need_not_be_read_by_the_next_run(store: Store) -> None:
    made = publish(store, FILES)
    shutil.rmtree(store.root / "uses")
    (checked,) = check_artifacts(list_artifacts(store.root), Silent())
    assert not checked.faults
    assert not is_read(store, made)
    flip(made.path / "a.bin")
    (checked,) = check_artifacts(list_artifacts(store.root), Silent())
    assert checked.faults
    with pytest.raises(VerificationError):
        is_read(store, made)


def test_what_another_process_published_first_is_read(store: Store) -> None:
    """Its bytes are not those that this process has hashed."""
    first = publish(store, FILES)
    shutil.rmtree(store.root / "uses")
    assert publish(store, FILES) == first
    assert is_read(store, first)
