"""A session: one process at work in a store. What it reads there stays; what it makes is whole.

Correctness rests on renames alone: a working folder belongs to one session, is published by one
rename, and a folder of a dead session is taken over by one rename. Locks save work.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifact import FORMAT, MANIFEST_NAME, Artifact, Manifest, read_artifact, write_json
from pipeline.errors import MachineError, PipelineError, ResourceError
from pipeline.files.digests import carry_digest
from pipeline.files.durable import partial_path, sync, sync_tree
from pipeline.files.journal import JOURNAL_NAME
from pipeline.store.leftovers import adopt, has_journal, sweep
from pipeline.store.locks import deletion_lock, hold_lock
from pipeline.store.owners import BEAT_S, SUFFIX, encode_owner, this_owner
from pipeline.store.proofs import note_proof, take_proof
from pipeline.store.publishing import make_read_only, put_in_place
from pipeline.store.shared_folders import group_bits, make_folder, share

if TYPE_CHECKING:
    from pipeline.store.store import Store

RESUMABLE_ENDS = (OSError, MemoryError, ResourceError, MachineError, KeyboardInterrupt, SystemExit)
"""What ends a stage without saying that its work so far is wrong."""


class Session:
    """One process at work in a store; made by `Store.session`."""

    def __init__(self, store: Store, label: str) -> None:
        self.store = store
        self.id = uuid.uuid4().hex[:12]
        self._owner = this_owner(label)
        self._descriptor: int | None = None
        self._refused: PipelineError | None = None
        self._folders: dict[Path, int] = {}
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="store-session", daemon=True)

    @property
    def file(self) -> Path:
        """What other processes read of this one."""
        return self.store.root / "sessions" / f"{self.id}{SUFFIX}"

    def hold(self, names: Sequence[str]) -> None:
        """Keep these artifacts, `stage/key`, from being deleted while the session lasts."""
        self._owner = replace(self._owner, holds=tuple(sorted({*self._owner.holds, *names})))
        if self._descriptor is not None:
            with deletion_lock(self.store.root, deleting=False):
                self._write()

    @contextmanager
    def exclusive(
        self, stage: str, key: str, *, timeout_s: float, on_wait: Callable[[str], None]
    ) -> Iterator[None]:
        """Hold the lock of one key, waiting for another process that makes the same artifact.

        The lock only saves work: publishing is right without it. Raises LockedError on time-out.
        """
        self._make_folder("locks")
        with hold_lock(self.store.root, f"{stage}-{key}", self.file, timeout_s, on_wait):
            yield

    @contextmanager
    def working_folder(self, stage: str, key: str, *, resumable: bool = False) -> Iterator[Path]:
        """A folder to write an artifact in; removed at the end if it was not published.

        For a resumable stage it may be that of a dead session, with all that was written there, and
        stays for the next one where the stage is ended by the machine or the user.
        """
        folder = self._make_folder("work") / f"{stage}-{key}-{self.id}"
        if not (resumable and adopt(self.store.root, f"{stage}-{key}-", folder, self._now())):
            folder.mkdir()
            share(self.store.root, folder)
        self._folders[folder] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        keep = False
        try:
            yield folder
        except RESUMABLE_ENDS:
            keep = resumable and has_journal(folder)
            raise
        finally:
            os.close(self._folders.pop(folder))
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)

    def publish(self, folder: Path, manifest: Manifest) -> Artifact:
        """Rename a finished working folder into place; an equal artifact that won stays.

        The journal of a resumable stage goes last: a kill while gigabytes are synced costs no work.
        """
        (folder / MANIFEST_NAME).unlink(missing_ok=True)  # of a process that was killed right here
        write_json(folder / MANIFEST_NAME, {"format": FORMAT, **asdict(manifest)})
        make_read_only(folder, 0o755 | group_bits(self.store.root))
        sync_tree(folder)
        (folder / JOURNAL_NAME).unlink(missing_ok=True)
        sync(folder)
        target = self.store.path_of(manifest.stage, manifest.key)
        make_folder(self.store.root, f"artifacts/{manifest.stage}")
        self._check_is_ours(folder)
        is_ours = put_in_place(folder, target)
        sync(target.parent)
        artifact = read_artifact(target)
        if is_ours:
            self._note(artifact, folder)
        return artifact

    def _note(self, artifact: Artifact, folder: Path) -> None:
        """Its bytes are known: they were hashed in the working folder that it was until now."""
        for file in artifact.manifest.files:
            carry_digest(folder / file.path, artifact.path / file.path)
        note_proof(self.store.root, artifact, take_proof(artifact))

    def _check_is_ours(self, folder: Path) -> None:
        """A folder that was taken away and made again by our own writing holds a part of the files.

        It was not if it is the one that was opened at the beginning: nothing ever comes back.
        """
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._folders[folder]), folder.stat()):
                return
        raise MachineError(
            f"`{folder}` was taken away by a process that took this one for dead",
            hint="run again; a machine that sleeps while it works looks dead to others",
        )

    @contextmanager
    def scratch_folder(self) -> Iterator[Path]:
        """Temporary files of this process lie in a folder of the store, and end with the block."""
        folder = self._make_folder("work") / f"scratch-{self.id}"
        before = tempfile.tempdir
        folder.mkdir(exist_ok=True)
        tempfile.tempdir = str(folder)
        try:
            yield folder
        finally:
            tempfile.tempdir = before
            shutil.rmtree(folder, ignore_errors=True)

    def open(self) -> None:
        """Tell others of this process, and clear what dead ones have left.

        Where the store cannot be written, everything in it can still be read; nothing is made
        there, for others would take it for a dead process's.
        """
        try:
            self.store.make_folder("sessions")
            self._create()
        except OSError as error:
            self._refused = self.store.refusal(error)
        except (MachineError, ResourceError) as error:
            self._refused = error
        else:
            self._thread.start()
            sweep(self.store.root, self.file, self._now())

    def close(self) -> None:
        """The process needs the store no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._descriptor is not None:
            with suppress(OSError):  # the next run finds it, and sees that its process is dead
                self.file.unlink()
            os.close(self._descriptor)
            self._descriptor = None

    def _create(self) -> None:
        """It gets its name once it tells whose it is: one that does not looks alive for a while."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        unnamed = partial_path(self.file.parent)
        self._descriptor = os.open(unnamed, flags, 0o644)
        try:
            with suppress(OSError):  # where there are no locks, the heartbeat has to do
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(OSError):  # other users read it too, whatever the umask
                os.fchmod(self._descriptor, 0o644)
            self._write()
            unnamed.rename(self.file)
        except BaseException:
            with suppress(OSError):
                unnamed.unlink(missing_ok=True)
            self.close()
            raise

    def _make_folder(self, name: str) -> Path:
        """A folder of the store to write in. Raises MachineError, ResourceError."""
        if self._refused is not None:
            raise self._refused
        return self.store.make_folder(name)

    def _write(self) -> None:
        """In place: another file would not have the lock. A reader of half a file waits."""
        assert self._descriptor is not None
        with self._writing:
            data = encode_owner(self._owner)
            os.pwrite(self._descriptor, data, 0)
            os.ftruncate(self._descriptor, len(data))

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            with suppress(OSError):
                self._show_life()

    def _show_life(self) -> None:
        """Give the session file the time that it is now."""
        assert self._descriptor is not None
        try:
            os.utime(self._descriptor)
        except OSError:  # a file system that sets no times
            self._write()

    def _now(self) -> float:
        """The time by the clock of the store's file system, which may be another machine's."""
        assert self._descriptor is not None
        self._show_life()
        return os.fstat(self._descriptor).st_mtime
