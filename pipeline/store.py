"""The store: artifacts by stage and key, in a folder that several processes may share."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from pipeline.artifact import FORMAT, MANIFEST_NAME, Artifact, Manifest, read_artifact, write_json
from pipeline.errors import LockedError, MachineError


class Store:
    """Artifacts by stage and key, in a folder that several processes may share."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def build_caches(self) -> Path:
        """Where engine backends keep what makes later builds faster; it need not exist."""
        return self.root / "build-caches"

    def path_of(self, stage: str, key: str) -> Path:
        """Where an artifact is, or would be."""
        return self.root / "artifacts" / stage / key

    def find(self, stage: str, key: str) -> Artifact | None:
        """The artifact, or None where it was not published."""
        path = self.path_of(stage, key)
        return read_artifact(path) if (path / MANIFEST_NAME).is_file() else None

    @contextmanager
    def exclusive(
        self, stage: str, key: str, *, timeout_s: float, on_wait: Callable[[str], None]
    ) -> Iterator[None]:
        """Hold the lock of one key, waiting for another process that makes the same artifact.

        The lock only saves work: publishing is right without it. Raises LockedError on time-out.
        """
        from filelock import FileLock, Timeout

        path = self._folder("locks") / f"{stage}-{key}.lock"
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait(f"waiting for another process that makes `{stage}` {key[:12]}")
            try:
                lock.acquire(timeout=timeout_s)
            except Timeout:
                raise LockedError(
                    f"another process still makes `{stage}` {key[:12]} after {timeout_s:.0f} s",
                    hint="wait for it, or give a longer `--lock-timeout`",
                ) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def working_folder(self, stage: str, key: str) -> Iterator[Path]:
        """A fresh folder to write an artifact in; removed at the end if it was not published.

        Call it under `exclusive`: what an earlier process of the same key left is then dead.
        """
        work = self._folder("work")
        for leftover in work.glob(f"{stage}-{key}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        folder = work / f"{stage}-{key}-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, folder: Path, manifest: Manifest) -> Artifact:
        """Rename a finished working folder into place; an equal artifact that won stays."""
        document = {"format": FORMAT, **asdict(manifest)}
        write_json(folder / MANIFEST_NAME, document)
        _make_read_only(folder)
        target = self.path_of(manifest.stage, manifest.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(target)
        except OSError:
            if not (target / MANIFEST_NAME).is_file():
                raise
        return read_artifact(target)

    def _folder(self, name: str) -> Path:
        path = self.root / name
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(
                f"the store `{self.root}` cannot be written: {error.strerror}",
                hint="name a writable folder by `--store` or `TRTLLM_PACK_STORE`",
            ) from None
        return path


def _make_read_only(folder: Path) -> None:
    """Modes that do not depend on the umask: files 0444, folders 0755.

    A file that has other names (a blob of the hub client's cache, say) keeps its mode: it is not
    ours alone.
    """
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
        elif path.stat().st_nlink == 1:
            path.chmod(0o444)
