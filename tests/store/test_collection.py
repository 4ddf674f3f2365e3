"""What may go of a store: least recently used first, never what is needed, nothing half deleted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from published import publish, write_files

from pipeline.errors import LockedError, MachineError, UsageError
from pipeline.progress import Silent
from pipeline.stages import STAGES
from pipeline.store import JOURNAL_NAME, Store
from pipeline.store import collection as collection_module
from pipeline.store import trash as trash_module
from pipeline.store.amounts import parse_bytes, parse_seconds
from pipeline.store.catalogue import Entry, disk_bytes, find_entry, list_artifacts
from pipeline.store.checking import check_artifacts
from pipeline.store.collection import HELD, STAGE_ORDER, Policy, choose, collect, discard
from pipeline.system.processes import this_process
from tests.store.left_behind import DEAD, leave_session

DAY_S = 86_400.0
KEYS = {"a": "aa" * 32, "b": "bb" * 32, "c": "cc" * 32}


def use(store: Store, entry_name: str, ago_s: float) -> None:
    """Make an artifact look as if it was made and last used so long ago."""
    moment = time.time() - ago_s
    path = store.root / "artifacts" / entry_name
    os.utime(path / "artifact.json", (moment, moment))
    note = store.root / "uses" / entry_name
    note.parent.mkdir(parents=True, exist_ok=True)
    note.touch()
    os.utime(note, (moment, moment))


@pytest.fixture
def filled(store: Store) -> Store:
    """Three artifacts of 40, 40 and 80 kB, used 30, 2 and 0 days ago; `b` was made of `a`."""
    publish(store, {"f": b"a" * 40_000}, KEYS["a"], stage="download", inputs={})
    publish(store, {"f": b"b" * 40_000}, KEYS["b"], inputs={"download": KEYS["a"]})
    publish(store, {"f": b"c" * 80_000}, KEYS["c"], stage="build", inputs={})
    use(store, f"download/{KEYS['a']}", 30 * DAY_S)
    use(store, f"convert/{KEYS['b']}", 2 * DAY_S)
    return store


def stages(entries: list[Entry]) -> list[str]:
    return [entry.stage for entry in entries]


def test_the_list_says_what_refers_to_what(filled: Store) -> None:
    (filled.root / "runs").mkdir()
    (filled.root / "runs" / "1-tiny.json").write_text(
        f'{{"name": "tiny", "stages": [{{"stage": "convert", "key": "{KEYS["b"]}"}}]}}'
    )
    (filled.root / "runs" / "2-bad.json").write_text("{")
    first, second, third = list_artifacts(filled.root)
    assert (first.stage, second.stage, third.stage) == ("download", "convert", "build")
    assert first.users == (f"convert/{KEYS['b']}",)
    assert second.inputs == (f"download/{KEYS['a']}",)
    assert (first.recipes, second.recipes) == ((), ("tiny",))
    assert not first.held
    assert first.fault is None
    assert first.size_bytes > 40_000
    assert time.time() - first.last_used > 29 * DAY_S


def test_hard_links_count_once(store: Store) -> None:
    one = publish(store, {"f": b"a" * 100_000}, KEYS["a"])
    with store.session() as session, session.working_folder("build", KEYS["b"]) as folder:
        from pipeline.artifact import describe

        (folder / "f").hardlink_to(one.path / "f")
        session.publish(folder, describe(folder, "build", KEYS["b"], {}, {}))
    entries = list_artifacts(store.root)
    assert disk_bytes(entries) < sum(disk_bytes([entry]) for entry in entries)
    limit = disk_bytes(entries) - 50_000
    # Deleting one name of the file frees nothing: the other goes too.
    assert len(choose(entries, Policy(max_bytes=limit), time.time())) == 2


@pytest.mark.parametrize(
    ("policy", "gone"),
    [
        (Policy(), []),
        (Policy(max_age_s=10 * DAY_S), ["download"]),
        (Policy(max_age_s=DAY_S), ["download", "convert"]),
        (Policy(max_bytes=10**9), []),
        (Policy(max_bytes=140_000), ["download"]),
        (Policy(max_bytes=0), ["download", "convert", "build"]),
        (Policy(max_age_s=DAY_S, max_bytes=10**9), ["download", "convert"]),
        (Policy(max_bytes=0, keep=frozenset({f"convert/{KEYS['b']}"})), ["download", "build"]),
    ],
)
def test_the_policy_decides(filled: Store, policy: Policy, gone: list[str]) -> None:
    before = list_artifacts(filled.root)
    dry = collect(filled.root, policy, dry_run=True)
    assert stages(dry.artifacts) == gone
    assert list_artifacts(filled.root) == before
    real = collect(filled.root, policy)
    assert stages(real.artifacts) == gone
    left = list_artifacts(filled.root)
    assert {e.stage for e in left} == {"download", "convert", "build"} - set(gone)
    assert real.disk_bytes == dry.disk_bytes == disk_bytes(left)
    assert not any((filled.root / "uses").glob("*/*")) or gone != ["download", "convert", "build"]
    assert not list((filled.root / "trash").iterdir() if gone else [])


def test_of_one_run_the_first_stages_go_first(store: Store) -> None:
    for number, stage in enumerate(("package", "download", "convert")):
        publish(store, {"f": stage.encode()}, f"{number}" * 64, stage=stage, inputs={})
    chosen = choose(list_artifacts(store.root), Policy(max_bytes=0), time.time())
    assert stages(chosen) == ["download", "convert", "package"]


def test_what_a_process_needs_stays(filled: Store) -> None:
    with filled.session() as session:
        session.hold([f"download/{KEYS['a']}"])
        assert list_artifacts(filled.root)[0].held
        assert stages(collect(filled.root, Policy(max_bytes=0)).artifacts) == ["convert", "build"]
    assert stages(collect(filled.root, Policy(max_bytes=0)).artifacts) == ["download"]


def test_what_a_process_begins_to_need_comes_back(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (entry, *_) = list_artifacts(filled.root)
    with filled.session() as session:

        def late(root: Path, path: Path) -> trash_module.Taken:
            taken = take(root, path)
            session.hold([entry.name])
            return taken

        take = trash_module.take
        monkeypatch.setattr(collection_module, "take", late)
        assert discard(filled.root, entry) == HELD
    assert filled.find("download", KEYS["a"]) is not None
    assert not list((filled.root / "trash").iterdir())


def test_a_process_that_does_not_say_what_it_needs_stops_it(filled: Store) -> None:
    (filled.root / "sessions" / "000000000000.json").write_bytes(b"{")
    assert all(entry.held for entry in list_artifacts(filled.root))
    with pytest.raises(LockedError, match="does not say what it needs"):
        collect(filled.root, Policy(max_bytes=0))
    assert len(list_artifacts(filled.root)) == 3


def test_leftovers_of_dead_processes_go(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_session(filled, DEAD)
    work = filled.root / "work"
    write_files(work / "build-k-000000000000", {"half": b"half"})
    write_files(work / "convert-k-000000000000", {JOURNAL_NAME: b"1", "half": b"half"})
    write_files(filled.root / "trash" / f"{DEAD}.0", {"f": b"f"})
    write_files(filled.root / "trash" / f"{this_process()}.0", {"f": b"f"})
    found = collect(filled.root, Policy())
    assert sorted((path.name, size) for path, size in found.leftovers) == [
        (f"{DEAD}.0", 1),
        ("build-k-000000000000", 4),
    ]
    assert [path.name for path in work.iterdir()] == ["convert-k-000000000000"]
    assert [path.name for path in (filled.root / "trash").iterdir()] == [f"{this_process()}.0"]
    monkeypatch.setattr(collection_module, "KEPT_WORK_S", -1.0)
    collect(filled.root, Policy())
    assert not list(work.iterdir())


def test_old_downloads_go_when_no_artifact_has_them(store: Store) -> None:
    folder = store.root / "downloads" / "modelscope"
    write_files(folder, {"old": b"1", "linked": b"2", "new": b"3"})
    (store.root / "elsewhere").hardlink_to(folder / "linked")
    for name in ("old", "linked"):
        os.utime(folder / name, (1, 1))
    collect(store.root, Policy())
    assert sorted(path.name for path in folder.iterdir()) == ["linked", "new"]


def test_a_run_clears_what_was_moved_aside(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    here = f"{this_process().space}-4000000000-1"
    for name in (f"{here}.0", "garbage", "12345678-4000000000-1.0"):
        write_files(filled.root / "trash" / name, {"f": b"f"})
    with filled.session():
        # A process of another machine may put back what it has just moved aside.
        (left,) = (filled.root / "trash").iterdir()
        assert left.name == "12345678-4000000000-1.0"
    monkeypatch.setattr(trash_module, "FOREIGN_S", -1.0)
    with filled.session():
        assert not list((filled.root / "trash").iterdir())


def test_damage_is_found_and_named(filled: Store) -> None:
    assert not any(each.faults for each in check_artifacts(list_artifacts(filled.root), Silent()))
    path = filled.path_of("convert", KEYS["b"])
    (path / "f").chmod(0o644)
    (path / "f").write_bytes(b"B" * 40_000)
    (path / "more").write_bytes(b"")
    filled.path_of("build", KEYS["c"]).rename(filled.path_of("build", "dd" * 32))
    (filled.path_of("download", KEYS["a"]) / "f").unlink()
    checked = {
        each.entry.stage: each.faults
        for each in check_artifacts(list_artifacts(filled.root), Silent())
    }
    assert checked["convert"][0].startswith("`f` is changed: BLAKE3 ")
    assert checked["convert"][1] == "`more` is not in the manifest"
    assert checked["build"] == (f"its manifest is that of `build/{KEYS['c']}`",)
    assert "damaged" in checked["download"][0]
    assert checked["download"][1] == "`f` is missing"


def test_a_key_is_found_by_its_beginning(filled: Store) -> None:
    entries = list_artifacts(filled.root)
    assert find_entry(entries, "aa").stage == "download"
    assert find_entry(entries, "convert/b").stage == "convert"
    for wanted in ("", "convert/a", "x"):
        with pytest.raises(UsageError, match="artifacts of this store begin with"):
            find_entry(entries, wanted)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("12", 12),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("500GB", 500 * 10**9),
        ("1.5 TB", 1_500_000_000_000),
        ("2g", 2 * 10**9),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text, "it") == size


@pytest.mark.parametrize(("text", "seconds"), [("30d", 30 * DAY_S), ("12h", 43_200), ("1.5m", 90)])
def test_ages(text: str, seconds: float) -> None:
    assert parse_seconds(text, "it") == seconds


@pytest.mark.parametrize("text", ["", "GB", "-1", "1e9", "1XB", "1 2", "9" * 20])
def test_what_is_no_amount_is_refused(text: str) -> None:
    for parse in (parse_bytes, parse_seconds):
        with pytest.raises(UsageError, match="it is `"):
            parse(text, "it")


def test_what_cannot_be_listed_does_not_count_as_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, {"sub/file": b"abc"})
    scandir = os.scandir

    def refuse(path: str | Path = ".") -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(MachineError, match=r"sub` cannot be read: Permission denied"):
        collect(store.root, Policy(max_bytes=1))


def test_the_order_of_the_stages_is_the_runners() -> None:
    assert tuple(stage.name for stage in STAGES) == STAGE_ORDER
