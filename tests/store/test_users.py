"""A store of several users: real user ids, in children of this process. Needs root."""

from __future__ import annotations

import os
import stat
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import blake3
import filelock
import pytest
from published import KEY, publish, write_files

from pipeline.artifact import describe
from pipeline.store import JOURNAL_NAME, Store
from pipeline.store.catalogue import held_names
from pipeline.store.collection import Policy, collect
from tests.public_folder import public_folder

ONE, OTHER, GROUP = 3001, 3002, 3000

IMPORTED = (blake3, filelock)
"""What is needed later: a child can import nothing if the interpreter lies in root's folder."""

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def as_user(user: int, umask: int, work: Callable[[], object]) -> None:
    """Do something as another user of the group."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.umask(umask)
            os.setgroups([GROUP])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - the child must not come back
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody may look into, unlike pytest's."""
    with public_folder() as folder:
        yield folder


@pytest.fixture
def shared(public: Path) -> Store:
    """A store whose folder the group may write in."""
    root = public / "shared"
    root.mkdir()
    os.chown(root, 0, GROUP)
    root.chmod(0o2770)
    return Store(root)


def ignore(_: str) -> None:
    pass


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077], ids=oct)
def test_what_one_makes_the_other_uses_and_deletes(shared: Store, umask: int) -> None:
    def make(key: str) -> None:
        shared.note_use(publish(shared, {"sub/f": b"f"}, key))
        with shared.session() as session:
            for _ in range(2):
                with session.exclusive("convert", KEY, timeout_s=0, on_wait=pytest.fail):
                    pass

    def use() -> None:
        artifact = shared.find("convert", KEY)
        assert artifact is not None
        shared.note_use(artifact)
        assert note.stat().st_mtime > 1
        make("12" * 32)
        found = collect(shared.root, Policy(max_bytes=0))
        assert len(found.artifacts) == 2
        assert found.refused == []

    as_user(ONE, umask, lambda: make(KEY))
    note = shared.root / "uses" / "convert" / KEY
    os.utime(note, (1, 1))
    as_user(OTHER, umask, use)
    assert not list((shared.root / "artifacts" / "convert").iterdir())


def test_a_store_of_one_user_stays_theirs(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    before = os.umask(0o022)
    try:
        made = publish(store, {"sub/f": b"f"})
    finally:
        os.umask(before)
    for folder in (made.path, made.path / "sub", made.path.parent, store.root / "work"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_others_see_what_a_process_of_a_closed_umask_needs(shared: Store) -> None:
    before = os.umask(0o077)
    try:
        with shared.session() as session:
            session.hold(["convert/a"])

            def look() -> None:
                assert held_names(shared.root) == {"convert/a"}

            as_user(OTHER, 0o022, look)
    finally:
        os.umask(before)


def test_closed_leftovers_of_another_user_hold_nothing_up(shared: Store) -> None:
    """Those of an old version, or of a folder that was opened to the group afterwards."""

    def leave() -> None:
        folder = shared.make_folder("work") / f"convert-{KEY}-{'0' * 12}"
        write_files(folder, {JOURNAL_NAME: b"1"})
        folder.chmod(0o700)
        shared.make_folder("trash")
        closed = shared.root / "trash" / "closed"
        write_files(closed, {"f": b"f"})
        closed.chmod(0o700)

    def go_on() -> None:
        with (
            shared.session() as session,
            session.working_folder("convert", KEY, resumable=True) as folder,
        ):
            (folder / "f").write_bytes(b"f")
            session.publish(folder, describe(folder, "convert", KEY, {}, {}))
        found = collect(shared.root, Policy(max_bytes=0))
        assert len(found.artifacts) == 1
        assert found.refused

    as_user(ONE, 0o022, leave)
    as_user(OTHER, 0o022, go_on)


def test_work_of_another_user_of_the_group_is_gone_on_with(shared: Store) -> None:
    def leave() -> None:
        try:
            with (
                shared.session() as session,
                session.working_folder("convert", KEY, resumable=True) as folder,
            ):
                write_files(folder, {JOURNAL_NAME: b"1", "half": b"half"})
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass

    def go_on() -> None:
        with (
            shared.session() as session,
            session.working_folder("convert", KEY, resumable=True) as folder,
        ):
            assert (folder / "half").read_bytes() == b"half"
            session.publish(folder, describe(folder, "convert", KEY, {}, {}))

    as_user(ONE, 0o022, leave)
    as_user(OTHER, 0o022, go_on)
    assert shared.find("convert", KEY) is not None


def test_a_store_of_others_is_read(public: Path) -> None:
    store = Store(public / "store")
    made = publish(store, {"f": b"f"})

    def read() -> None:
        with store.session() as session:
            session.hold([f"convert/{KEY}"])
            assert store.find("convert", KEY) == made
            store.note_use(made)
        found = collect(store.root, Policy(max_bytes=0))
        assert found.artifacts == []
        assert [path for path, _ in found.refused] == [made.path]

    as_user(OTHER, 0o022, read)
    assert store.find("convert", KEY) == made
