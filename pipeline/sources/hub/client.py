"""Access to one repo through `huggingface_hub`, versions 0.34 to 2.x.

The client's own settings (HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, ...) hold. Files come
into its cache, never straight into a folder of ours: before its 2.x, a hostile repo could write
outside of `local_dir`. The client does not compare content with digests; `files.py` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.errors import MachineError, RemoteError
from pipeline.progress import Progress, no_note
from pipeline.sources.crew import CutOffError, Job, Limits, run_jobs
from pipeline.sources.hub.answers import Request
from pipeline.sources.hub.causes import from_xet, judge
from pipeline.sources.hub.errors import explain_cut, telling
from pipeline.sources.hub.line import Line
from pipeline.sources.hub.listing import parse_listing
from pipeline.sources.hub.quiet import quiet
from pipeline.sources.hub.requests import read_head, read_listing
from pipeline.sources.listing import SourceFile
from pipeline.sources.retry import RetryPolicy, Transient, with_retry

HEADER_THREADS = 8
PATIENCE = RetryPolicy()
STALL_TIMEOUTS = 4
"""How many of the client's read timeouts (HF_HUB_DOWNLOAD_TIMEOUT) may pass without progress."""

XET_FACTOR = 4
"""The xet storage repeats by itself, and tells nobody."""


@dataclass(frozen=True, slots=True)
class HubClient:
    """Access to one repo. `endpoint` and `cache_dir` default to the client's own.

    Where an endpoint is not the user's own choice, `anonymous` keeps the user's token from it.
    `note` is told where planning waits for another attempt; downloads tell their progress.
    """

    repo: str
    endpoint: str | None = None
    cache_dir: Path | None = None
    offline: bool = False
    policy: RetryPolicy = PATIENCE
    anonymous: bool = False
    note: Callable[[str], None] = field(default=no_note, compare=False)

    def is_offline(self) -> bool:
        """No request may be made: asked for here, or by HF_HUB_OFFLINE."""
        from huggingface_hub import constants

        return self.offline or bool(constants.HF_HUB_OFFLINE)

    def describe(self, revision: str) -> tuple[str, tuple[SourceFile, ...]]:
        """The commit that a revision stands for, and all files there with published digests."""
        request = self._request(revision)

        def ask(line: Line) -> bytes:
            return read_listing(line, request.endpoint, self.repo, revision, self._token)

        with quiet():
            (text,) = run_jobs([self._job(request, ask, 0)], 1)
        return parse_listing(text, self.repo)

    def cached(self, commit: str, name: str) -> Path | None:
        """A file in the client's cache, not yet verified, or None."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repo, name, cache_dir=self.cache_dir, revision=commit)
        return Path(found) if isinstance(found, str) else None

    def download(self, job: Job[Any], commit: str, file: SourceFile, progress: Progress) -> Path:
        """Bring a file into the client's cache, in a job that is watched. Not yet verified."""
        _refuse_too_large(file)
        request = self._request(commit, file.name)
        digest = file.sha256 or file.git_blob

        def get(_: Line) -> Path:
            return self._get(commit, file, progress)

        with telling(request):
            return with_retry(
                lambda: job.attempt(Line(commit, file.size_bytes, digest), get),
                lambda error: self._judge_download(error, file),
                self.policy,
                progress.note,
                file.size_bytes,
            )

    def read_heads(self, commit: str, guesses: Mapping[SourceFile, int]) -> list[bytes]:
        """Length and header of weight files, in order: by range requests, several at a time.

        `guesses` says of each how many bytes that may be; more is asked for where it is not enough.
        """
        from huggingface_hub import hf_hub_url

        def job(file: SourceFile, guess: int) -> Job[bytes]:
            request = self._request(commit, file.name)

            def ask(line: Line) -> bytes:
                endpoint = request.endpoint
                url = hf_hub_url(self.repo, file.name, revision=commit, endpoint=endpoint)
                return read_head(line, url, file, guess, self._token)

            return self._job(request, ask, guess, commit)

        with quiet():
            return run_jobs([job(file, guess) for file, guess in guesses.items()], HEADER_THREADS)

    def limits(self, size_bytes: int) -> Limits:
        """How long something of this size may take, and how long nothing may happen."""
        from huggingface_hub import constants

        stall_s = STALL_TIMEOUTS * float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
        if size_bytes and _uses_xet():
            stall_s *= XET_FACTOR
        return Limits(stall_s, self.policy.deadline(size_bytes))

    def explain_cut(self, commit: str, file: SourceFile, cut: CutOffError) -> RemoteError:
        """Why a file was not waited for any longer."""
        return explain_cut(cut, self._request(commit, file.name), by_xet=_uses_xet())

    def blobs(self) -> Path:
        """Where the client's cache has the content of this repo's files."""
        from huggingface_hub import constants

        root = Path(self.cache_dir or constants.HF_HUB_CACHE)
        return root / f"models--{self.repo.replace('/', '--')}" / "blobs"

    def places(self, commit: str, file: SourceFile) -> tuple[Path, Path]:
        """Where the client's cache has a file by its name, and by its content."""
        blobs = self.blobs()
        blob = blobs / str(file.sha256 or file.git_blob)
        return blobs.parent / "snapshots" / commit / file.name, blob

    def lock(self, file: SourceFile) -> Path:
        """The lock of all clients for the content of a file (`file_download.py`, 0.36 and 2.4)."""
        folder = self.blobs().parent
        return folder.parent / ".locks" / folder.name / f"{file.sha256 or file.git_blob}.lock"

    def drop_partial(self, file: SourceFile) -> None:
        """Remove what the client would resume of a file (before its 1.0)."""
        with suppress(OSError):
            (self.blobs() / f"{file.sha256 or file.git_blob}.incomplete").unlink()

    def _job(
        self,
        request: Request,
        ask: Callable[[Line], bytes],
        size_bytes: int,
        commit: str | None = None,
    ) -> Job[bytes]:
        """A request of our own, repeated where that may help, its failures told in our words."""

        def act(job: Job[bytes]) -> bytes:
            with telling(request):
                return with_retry(
                    lambda: job.attempt(Line(commit), ask), judge, self.policy, self.note
                )

        return Job(act, self.limits(size_bytes), explain=lambda cut: explain_cut(cut, request))

    def _get(self, commit: str, file: SourceFile, progress: Progress) -> Path:
        """Let the client fetch a file; where its xet storage fails, once more by plain HTTP."""
        from huggingface_hub import constants

        # Asked before: another thread, whose file failed as well, may turn it off meanwhile.
        by_xet = not constants.HF_HUB_DISABLE_XET
        try:
            return self._ask_client(commit, file)
        except Exception as error:
            if not by_xet or not from_xet(error):
                raise
            progress.note(f"the xet storage failed for `{file.name}`; using plain HTTP")
        constants.HF_HUB_DISABLE_XET = True
        return self._ask_client(commit, file)

    def _ask_client(self, commit: str, file: SourceFile) -> Path:
        from huggingface_hub import hf_hub_download

        path: str = hf_hub_download(
            self.repo,
            file.name,
            revision=commit,
            endpoint=self._request(commit).endpoint,
            cache_dir=self.cache_dir,
            token=self._token,
            local_files_only=self.offline,
        )
        return Path(path)

    def _judge_download(self, error: Exception, file: SourceFile) -> Transient | None:
        """As `judge`; where a partial file cannot be resumed, it is removed: then it may help."""
        response = getattr(error, "response", None)
        if getattr(response, "status_code", None) != 416:
            return judge(error)
        self.drop_partial(file)
        return Transient("the hub cannot resume the partial file (HTTP 416)")

    @property
    def _token(self) -> bool | None:
        return False if self.anonymous else None

    def _request(self, revision: str, name: str | None = None) -> Request:
        from huggingface_hub import constants

        endpoint = (self.endpoint or str(constants.ENDPOINT)).rstrip("/")
        return Request(endpoint, self.repo, revision, name, anonymous=self.anonymous)


def _uses_xet() -> bool:
    from huggingface_hub import constants

    return not constants.HF_HUB_DISABLE_XET and find_spec("hf_xet") is not None


def _refuse_too_large(file: SourceFile) -> None:
    """The client fetches files of more than 50 GB by the xet protocol only."""
    from huggingface_hub import constants

    if file.size_bytes > constants.MAX_HTTP_DOWNLOAD_SIZE and not _uses_xet():
        raise MachineError(
            f"`{file.name}` has {file.size_bytes:,} bytes, too many for plain HTTP",
            hint="install `hf-xet`, and do not set `HF_HUB_DISABLE_XET`",
        )
