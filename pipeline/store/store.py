"""Finding artifacts: in the store itself, then in read-only tiers that it shares with others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.artifact import MANIFEST_NAME, Artifact, read_artifact
from pipeline.errors import PipelineError, VerificationError
from pipeline.files.durable import write_atomic
from pipeline.files.journal import JOURNAL_NAME
from pipeline.progress import Progress
from pipeline.store.proofs import prove
from pipeline.store.session import Session
from pipeline.store.shared_folders import make_folder
from pipeline.system.refusals import file_error


class Store:
    """Artifacts by stage and key below `root`; those below `shared` are read where they lie.

    A shared tier is another store's folder, which this one never writes to.
    """

    def __init__(self, root: Path, shared: tuple[Path, ...] = ()) -> None:
        self.root = root
        self.shared = shared

    @property
    def build_caches(self) -> Path:
        """Where engine backends keep what makes later builds faster; it need not exist."""
        return self.root / "build-caches"

    def path_of(self, stage: str, key: str) -> Path:
        """Where an artifact of this store is, or would be."""
        return _path_of(self.root, stage, key)

    def find(self, stage: str, key: str) -> Artifact | None:
        """The artifact, or None where it was not published.

        Raises VerificationError where a file is missing or has another size; its bytes are not
        read, see `prove`.
        """
        for root in (self.root, *self.shared):
            path = _path_of(root, stage, key)
            if not (path / MANIFEST_NAME).is_file():
                continue
            try:
                return read_artifact(path)
            except VerificationError:
                if (path / MANIFEST_NAME).is_file():
                    raise
                # It was deleted just now, while we looked at it.
        return None

    def prove(self, artifact: Artifact, reading: Callable[[], Progress]) -> None:
        """Make sure that an artifact of this store, or of a tier, is as it was published.

        It is read only where that is not known: see `proofs`. Raises VerificationError,
        MachineError.
        """
        homes = [root for root in self.shared if artifact.path.is_relative_to(root)]
        prove(artifact, (*homes, self.root), reading)

    def begun_bytes(self, stage: str, key: str) -> int:
        """Bytes on disk of an artifact that an earlier run has begun and the next goes on with."""
        begun = [0]
        for folder in (self.root / "work").glob(f"{stage}-{key}-*"):
            with suppress(OSError):  # it may be published meanwhile
                if (folder / JOURNAL_NAME).exists():
                    begun.append(sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")))
        return max(begun)

    @contextmanager
    def session(self, label: str = "") -> Iterator[Session]:
        """Work in the store: see `Session`. `label` tells others on what, a recipe's name."""
        session = Session(self, label)
        try:
            session.open()
            yield session
        finally:
            session.close()

    def note_use(self, artifact: Artifact) -> None:
        """Remember that an artifact of this store was needed now; the oldest are deleted first."""
        if not artifact.path.is_relative_to(self.root):
            return  # of a tier that is another's
        path = self.root / "uses" / artifact.manifest.stage / artifact.key
        with suppress(OSError):  # a store that cannot be written is not cleared either
            try:
                os.utime(path)
            except FileNotFoundError:
                make_folder(self.root, f"uses/{artifact.manifest.stage}")
                path.touch()
            except PermissionError:  # another user's: ours in its place
                write_atomic(path, path.read_bytes())

    def make_folder(self, name: str) -> Path:
        """A folder of the store, made where it is missing. Raises MachineError, ResourceError."""
        try:
            return make_folder(self.root, name)
        except OSError as error:
            raise self.refusal(error) from None

    def refusal(self, error: OSError) -> PipelineError:
        """The error of a store that cannot be written."""
        hint = "name a writable folder by `--store` or `TRTLLM_PACK_STORE`"
        return file_error(error, self.root, "cannot be written", hint)


def _path_of(root: Path, stage: str, key: str) -> Path:
    return root / "artifacts" / stage / key
