"""Files of a repo in the client's cache, each proved to be what the hub published.

The client does not check content, so each file is hashed here: LFS files against their published
SHA-256, while they are written; all others against git's blob id. What was proved once is
remembered as long as nothing about the file changes (`digest_memory.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import RemoteError, VerificationError
from pipeline.progress import Progress
from pipeline.sources.copying import FileDigests, hash_file
from pipeline.sources.crew import CutOffError, Job, run_jobs
from pipeline.sources.digest_memory import DigestMemory
from pipeline.sources.hub.cache_entries import clear_odd, discard
from pipeline.sources.hub.checks import TooLongError
from pipeline.sources.hub.client import HubClient
from pipeline.sources.hub.download_watch import DownloadWatch
from pipeline.sources.hub.following import Follower
from pipeline.sources.hub.quiet import quiet
from pipeline.sources.listing import SourceFile
from pipeline.sources.remote.client import Verified

FILE_THREADS = 4
"""Files at a time: one connection rarely fills a line, one processor may be slow at SHA-256."""

ATTEMPTS = 2
"""How often a file is fetched whose content is wrong."""

MAX_VANISHED = 6
"""How often others may take a file away from us, which says nothing about its content."""

ABANDONED_S = 86_400
RANDOM_PART = "[0-9a-f]" * 8

FOLLOWED_BYTES = 4 << 20
"""A file is hashed while it comes from this size on."""


Proved = tuple[Verified, tuple[str, str]]
"""An entry of the client's cache; the state of its file before it was read (`DigestMemory`)."""


def fetch_files(
    client: HubClient,
    commit: str,
    files: Sequence[SourceFile],
    digests: DigestMemory,
    progress: Progress,
    finished: Callable[[SourceFile, Verified], None] = lambda *_: None,
) -> list[Verified]:
    """Bring files into the client's cache, several at a time; what each is, in order.

    `finished` is told of each as it is proved. Raises VerificationError where a file is twice not
    what the hub published, RemoteError where it cannot be had, ResourceError and MachineError for
    the disk of the cache.
    """
    # The largest first, so that no long one is left when all others have ended.
    order = sorted(range(len(files)), key=lambda number: -files[number].size_bytes)
    jobs = [_job(client, commit, files[number], digests, progress) for number in order]

    def tell(number: int, proved: Proved) -> None:
        finished(files[order[number]], proved[0])

    with quiet():
        found = dict(zip(order, run_jobs(jobs, FILE_THREADS, tell), strict=True))
    for number, file in enumerate(files):
        if file.sha256 is not None:
            verified, state = found[number]
            digests.remember(verified.path, state, file.sha256)
    return [found[number][0] for number in range(len(files))]


def _job(
    client: HubClient, commit: str, file: SourceFile, digests: DigestMemory, progress: Progress
) -> Job[Proved]:
    watch = DownloadWatch(client.blobs(), file, progress)

    def act(job: Job[Proved]) -> Proved:
        return _fetch(client, commit, file, digests, progress, watch, job)

    def explain(cut: CutOffError) -> RemoteError:
        return client.explain_cut(commit, file, cut)

    return Job(act, client.limits(file.size_bytes), watch.look, explain)


def _fetch(
    client: HubClient,
    commit: str,
    file: SourceFile,
    digests: DigestMemory,
    progress: Progress,
    watch: DownloadWatch,
    job: Job[Proved],
) -> Proved:
    """One file, a second time where its content is wrong."""
    attempts = 1 if client.is_offline() else ATTEMPTS
    clear_odd(client.places(commit, file))
    was_there = client.cached(commit, file.name) is not None
    if not was_there:
        remove_abandoned(client.blobs(), file)
    vanished = tried = 0
    while tried < attempts:
        tried += 1
        try:
            with _following(file, watch) as follower:
                path = client.download(job, commit, file, progress)
                # Clients of other processes take the entry away for a moment, to link it anew.
                blob = path.resolve(strict=True)
                state = digests.state(path)
                found = _digests(path, file, digests, follower)
        except TooLongError as error:
            client.drop_partial(file)
            told = str(error)
        except FileNotFoundError:  # another file shares its blob, and found that to be wrong
            told = "nothing: it vanished while it was read"
            vanished += 1
            if vanished <= MAX_VANISHED:
                tried -= 1
                continue
        else:
            if _is_published(found, file):
                watch.finish(was_there=was_there)
                return Verified(blob, found), state
            told = f"{found.size_bytes} bytes, digest `{found.git_blob or found.sha256}`"
            _give_up(client, file, digests, path, state)
        was_there = False
        progress.note(f"`{file.name}` came with wrong content")
    raise VerificationError(
        f"`{file.name}` of `{client.repo}` is not what the hub published",
        facts=[
            f"published: {file.size_bytes} bytes, digest `{file.sha256 or file.git_blob}`",
            f"found: {told}",
        ],
        hint="it was removed from the Hugging Face cache: run again with network access"
        if attempts == 1
        else f"it was fetched {attempts} times: something between here and the hub changes it",
    )


def _give_up(
    client: HubClient,
    file: SourceFile,
    digests: DigestMemory,
    path: Path,
    state: tuple[str, str],
) -> None:
    """Take a file with wrong content out of the client's cache, as it was in `state`."""

    def is_unchanged() -> bool:
        try:
            return digests.state(path) == state
        except FileNotFoundError:
            return False

    digests.forget(path)
    discard(path, client.blobs().parent.parent, client.lock(file), is_unchanged)


def remove_abandoned(blobs: Path, file: SourceFile) -> None:
    """Remove partial files that a killed client of 1.x or 2.x left: it never resumes them.

    Those have a random part in their names (`file_download.py`, `_download_to_tmp_and_move`). Only
    what nobody has written to for a day: no download that lives is as slow as that.
    """
    for path in blobs.glob(f"{file.sha256 or file.git_blob}.{RANDOM_PART}.incomplete"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                path.unlink()


def _digests(
    path: Path, file: SourceFile, digests: DigestMemory, follower: Follower | None
) -> FileDigests:
    """Digests of a fetched file: remembered, else followed while it came, else by reading it."""
    if file.sha256 is not None and digests.recall(path) == file.sha256:
        return FileDigests(path.stat().st_size, file.sha256, "")
    followed = follower.finish(path) if follower is not None else None
    if followed is not None and _is_published(followed, file):
        return followed
    return hash_file(path, git_blob=file.sha256 is None)


def _is_published(found: FileDigests, file: SourceFile) -> bool:
    digest = found.sha256 if file.sha256 else found.git_blob
    return found.size_bytes == file.size_bytes and digest == (file.sha256 or file.git_blob)


@contextmanager
def _following(file: SourceFile, watch: DownloadWatch) -> Iterator[Follower | None]:
    """Hash a large file while it is written."""
    if file.sha256 is None or file.size_bytes < FOLLOWED_BYTES:
        yield None
        return
    follower = Follower(watch.growing)
    try:
        yield follower
    finally:
        follower.abandon()
