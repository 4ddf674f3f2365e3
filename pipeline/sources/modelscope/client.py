"""One repo of a ModelScope: its listing, its files in the store, headers of its weight files.

Plain HTTPS and not the real client, because the API publishes the SHA-256 of every file, so that
nothing in between needs to be trusted. The client (`modelscope` 1.40.2 on `modelscope_hub` 0.5.1,
read and run) brings `requests`, `tqdm`, `cryptography` and `setuptools`, has a cache of its own,
unpickles its login, and sends an identifier of the machine that it keeps below the home folder; its
older lines (1.31) take a commit for a revision that does not exist.

Files lie in `<store>/downloads/modelscope/<owner>/<name>/<sha256>`, read-only, and as
`<sha256>.partial` as long as they are not whole. Artifacts and releases are hard links to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TypeVar

from pipeline.checkpoint.safetensors_file import LENGTH_BYTES, header_bytes
from pipeline.errors import RemoteError, VerificationError
from pipeline.progress import Progress, no_note
from pipeline.sources import crew
from pipeline.sources.copying import FileDigests
from pipeline.sources.crew import Job, run_jobs
from pipeline.sources.digest_memory import DigestMemory
from pipeline.sources.http.download import GAIN_BYTES, Patience, content_range, download
from pipeline.sources.http.pace import Limits
from pipeline.sources.http.transport import LIMITS, Answer, ConnectionFailed, Get, open_address
from pipeline.sources.listing import COMMIT, SourceFile
from pipeline.sources.modelscope.api import DEFAULT_REVISION, USER_AGENT, Api
from pipeline.sources.modelscope.errors import ENDPOINT_HINT, Request, judge, telling
from pipeline.sources.modelscope.locked_progress import LockedProgress
from pipeline.sources.modelscope.site import Site
from pipeline.sources.remote.client import OFFLINE_HINT, Place, Verified
from pipeline.sources.retry import RetryPolicy, with_retry

T = TypeVar("T")

FILE_THREADS, HEADER_THREADS = 4, 8
PATIENCE = RetryPolicy()
UNBOUNDED = crew.Limits(inf, inf)
"""Of a job as the crew sees it: every wait in here has a bound of its own."""


@dataclass(frozen=True, slots=True)
class ModelScopeClient:
    """Access to one repo; `store` is the folder of the store. All errors are PipelineErrors.

    `note` is told where planning waits for another attempt; downloads tell their progress.
    """

    repo: str
    store: Path
    site: Site
    offline: bool = False
    policy: RetryPolicy = PATIENCE
    limits: Limits = LIMITS
    gain_bytes: int = GAIN_BYTES
    note: Callable[[str], None] = field(default=no_note, compare=False)

    @property
    def place(self) -> Place:
        """The repo and its site."""
        shown = self.site.elsewhere
        return Place("modelscope", "ModelScope", self.repo, shown, ENDPOINT_HINT, DEFAULT_REVISION)

    def is_offline(self) -> bool:
        """No request may be made. The site's own client has no setting for that."""
        return self.offline

    def describe(self, revision: str) -> tuple[str, tuple[SourceFile, ...]]:
        """The commit that a revision stands for, and all files there with published digests."""

        def ask() -> tuple[str, tuple[SourceFile, ...]]:
            commit = revision if COMMIT.fullmatch(revision) else self._api.resolve(revision)
            return commit, self._api.list_files(commit)

        with telling(Request(self.site, self.repo, revision)):
            return with_retry(ask, judge, self.policy, self.note)

    def cached(self, commit: str, file: SourceFile) -> Path | None:
        """A whole file in the store, not yet verified, or None."""
        path = self._path(file)
        return path if path.is_file() and path.stat().st_size == file.size_bytes else None

    def fetch(
        self,
        commit: str,
        files: Sequence[SourceFile],
        digests: DigestMemory,
        progress: Progress,
        finished: Callable[[SourceFile, Verified], None] = lambda *_: None,
    ) -> list[Verified]:
        """Bring files into the store, several at a time; what each is, in order.

        `finished` is told of each as it is proved. Raises VerificationError where a file is twice
        not what was published, RemoteError where it cannot be had, ResourceError and MachineError
        for the disk of the store.
        """
        # Equal files are fetched once. The largest come first, so that no long one is left when
        # all others have ended.
        by_content: dict[tuple[str | None, int], list[SourceFile]] = {}
        for file in sorted(files, key=lambda file: -file.size_bytes):
            by_content.setdefault((file.sha256, file.size_bytes), []).append(file)
        same = list(by_content.values())
        told = LockedProgress(progress)

        def job(file: SourceFile, *others: SourceFile) -> Job[Verified]:
            def bring(job: Job[Verified]) -> Verified:
                verified = self._bring(commit, file, digests, told, job)
                told.skip(sum(other.size_bytes for other in others))
                return verified

            return Job(bring, UNBOUNDED)

        def tell(number: int, verified: Verified) -> None:
            for file in same[number]:
                finished(file, verified)

        found = run_jobs([job(*each) for each in same], FILE_THREADS, tell)
        verified = dict(zip(by_content, found, strict=True))
        return [verified[file.sha256, file.size_bytes] for file in files]

    def read_heads(self, commit: str, guesses: Mapping[SourceFile, int]) -> list[bytes]:
        """Length and header of weight files, in order: by range requests, several at a time."""

        def job(file: SourceFile, guess_bytes: int) -> Job[bytes]:
            return Job(lambda job: self._read_head(commit, file, guess_bytes, job), UNBOUNDED)

        return run_jobs([job(*each) for each in guesses.items()], HEADER_THREADS)

    def _bring(
        self,
        commit: str,
        file: SourceFile,
        digests: DigestMemory,
        progress: Progress,
        job: Job[Verified],
    ) -> Verified:
        """One file in the store: there already and proved, or fetched."""
        path = self._path(file)
        assert file.sha256 is not None, "files are kept by their SHA-256"
        verified = Verified(path, FileDigests(file.size_bytes, file.sha256, ""))
        if path.exists():
            if _is_published(path, file, digests):
                progress.skip(file.size_bytes)
                return verified
            if digests.digest(path) == file.sha256:  # another file of the repo may be read from it
                raise self._wrong(file, f"{path.stat().st_size} bytes with this SHA-256")
            digests.forget(path)
            path.unlink(missing_ok=True)
            progress.note(f"`{file.name}` in the store had wrong content, and was removed")
        if self.offline:
            raise RemoteError(
                f"`{file.name}` of `{self.repo}` is not on this machine, and the network is not to "
                "be used",
                hint=OFFLINE_HINT,
            )
        came = self._download(commit, file, progress, job)
        if not came and not _is_published(path, file, digests):
            raise self._wrong(file, f"`{path}`, which came with another file or by another process")
        return verified

    def _wrong(self, file: SourceFile, found: str) -> VerificationError:
        """What the store has by the SHA-256 of a file is not that file."""
        return VerificationError(
            f"`{file.name}` of `{self.repo}` is not what ModelScope published",
            facts=[
                f"published: {file.size_bytes} bytes, SHA-256 `{file.sha256}`",
                f"found: {found}",
            ],
            hint="remove `downloads/modelscope` of the store and run again; where that does not "
            "help, the site lists a size that is not the file's",
        )

    def _download(
        self, commit: str, file: SourceFile, progress: Progress, job: Job[Verified]
    ) -> bool:
        """Fetch a file into the store; False where another process did."""

        @contextmanager
        def ask(offset: int | None) -> Iterator[Answer]:
            span = None if offset is None else (offset, file.size_bytes)
            with open_address(self._get(commit, file, file.size_bytes, span)) as answer:
                yield answer

        patience = Patience(self.policy, judge, self.gain_bytes, lambda: _check(job))
        with telling(Request(self.site, self.repo, commit, file)):
            return download(file, self._path(file), ask, patience, progress)

    def _read_head(self, commit: str, file: SourceFile, guess_bytes: int, job: Job[bytes]) -> bytes:
        """Length and header of a weight file: one range request, or two where the guess is short.

        Raises VerificationError where the file cannot have such a header.
        """

        def start(num_bytes: int) -> bytes:
            def ask() -> bytes:
                _check(job)
                return self._read_start(commit, file, num_bytes)

            return with_retry(ask, judge, self.policy, self.note)

        with telling(Request(self.site, self.repo, commit, file)):
            num_bytes = min(max(guess_bytes, LENGTH_BYTES), file.size_bytes)
            head = start(num_bytes) if num_bytes else b""
            num_head_bytes = header_bytes(head[:LENGTH_BYTES], file.name, file.size_bytes)
            return head[:num_head_bytes] if num_head_bytes <= len(head) else start(num_head_bytes)

    def _read_start(self, commit: str, file: SourceFile, num_bytes: int) -> bytes:
        """The first bytes of a file; a server that ignores the range is read no further than that.

        They come without proof, and are compared with the file later.
        """
        with open_address(self._get(commit, file, num_bytes, (0, num_bytes))) as answer:
            if answer.status == 206 and content_range(answer, 0) is None:
                raise ConnectionFailed("a part came that was not asked for")
            head = answer.read(num_bytes)
        if len(head) < num_bytes:
            raise ConnectionFailed(f"{len(head)} of {num_bytes} bytes came")
        return head

    def _get(
        self, commit: str, file: SourceFile, max_bytes: int, span: tuple[int, int] | None
    ) -> Get:
        """A request for a file, or for the bytes from one up to, not including, another."""
        headers = {"User-Agent": USER_AGENT}
        if span is not None:
            headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
        address = self._api.file_address(commit, file.name)
        return Get(address, max_bytes, headers, self.site.secret_headers(), self.limits)

    def _path(self, file: SourceFile) -> Path:
        """Where the store has a file once it is whole."""
        assert file.sha256 is not None, "files are kept by their SHA-256"
        return self.store.joinpath("downloads", "modelscope", *self.repo.split("/"), file.sha256)

    @property
    def _api(self) -> Api:
        return Api(self.site, self.repo, self.limits)


def _is_published(path: Path, file: SourceFile, digests: DigestMemory) -> bool:
    return path.stat().st_size == file.size_bytes and digests.digest(path) == file.sha256


def _check(job: Job[T]) -> None:
    """End a job that nobody waits for any more."""
    if job.stopped is not None:
        raise job.stopped
