"""The few calls of `huggingface_hub` that a source needs; works with its versions 0.34 to 2.x.

The client's own settings (HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, ...) hold. Files come
into its cache, never straight into a folder of ours: before its 2.x, a hostile repo could write
outside of `local_dir`. The client does not compare content with digests; `hub.py` does.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from pipeline.checkpoint.safetensors_file import LENGTH_BYTES, header_bytes
from pipeline.errors import MachineError, RemoteError
from pipeline.progress import Progress, Silent
from pipeline.sources.download_watch import watching
from pipeline.sources.hub_errors import Request, explain, from_xet, judge
from pipeline.sources.listing import SourceFile
from pipeline.sources.retry import RetryPolicy, with_retry

T = TypeVar("T")

FIRST_READ_BYTES = 128 << 10
"""Enough for most headers, so that one request does."""

HEADER_THREADS = 8
PATIENCE = RetryPolicy()


@dataclass(frozen=True, slots=True)
class HubClient:
    """Access to one repo. `endpoint` and `cache_dir` default to the client's own."""

    repo: str
    endpoint: str | None = None
    cache_dir: Path | None = None
    offline: bool = False
    policy: RetryPolicy = PATIENCE

    def is_offline(self) -> bool:
        """No request may be made: asked for here, or by HF_HUB_OFFLINE."""
        from huggingface_hub import constants

        return self.offline or bool(constants.HF_HUB_OFFLINE)

    def describe(self, revision: str) -> tuple[str, list[SourceFile]]:
        """The commit that a revision stands for, and all files there with published digests."""

        def ask() -> Any:
            from huggingface_hub import HfApi, constants

            return HfApi(endpoint=self.endpoint).model_info(
                self.repo,
                revision=revision,
                files_metadata=True,
                timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            )

        try:
            with _quiet():
                info = self._guarded(ask, self._request(revision), Silent())
            return str(info.sha), [_source_file(sibling) for sibling in info.siblings]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise RemoteError(
                f"the hub describes the repo `{self.repo}` in a way that is not understood",
                hint="check `HF_ENDPOINT`, and whether a newer trtllm-pack exists",
            ) from None

    def cached(self, commit: str, name: str) -> Path | None:
        """A file in the client's cache, not yet verified, or None."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repo, name, cache_dir=self.cache_dir, revision=commit)
        return Path(found) if isinstance(found, str) else None

    def download(self, commit: str, file: SourceFile, progress: Progress) -> Path:
        """Bring a file into the client's cache; its bytes count as progress. Not yet verified."""
        from huggingface_hub import constants, hf_hub_download

        def get() -> str:
            path: str = hf_hub_download(
                self.repo,
                file.name,
                revision=commit,
                endpoint=self.endpoint,
                cache_dir=self.cache_dir,
                local_files_only=self.offline,
            )
            return path

        def get_also_without_xet() -> str:
            try:
                return get()
            except Exception as error:
                if constants.HF_HUB_DISABLE_XET or not from_xet(error):
                    raise
                progress.note(f"the xet storage failed for `{file.name}`; using plain HTTP")
            constants.HF_HUB_DISABLE_XET = True
            return get()

        _refuse_too_large(file)
        request = self._request(commit, file.name)
        with _quiet(), watching(self._blobs(), file, progress):
            return Path(self._guarded(get_also_without_xet, request, progress))

    def discard(self, path: Path) -> None:
        """Remove a file with wrong content from the client's cache, so that it is not used again.

        `path` is a snapshot entry: usually a link to a blob, which may be a link itself.
        """
        links = [path]
        while links[-1].is_symlink():
            target = links[-1].readlink()
            links.append(target if target.is_absolute() else links[-1].parent / target)
        for link in links:
            with suppress(FileNotFoundError):
                link.unlink()

    def read_heads(self, commit: str, files: Sequence[SourceFile]) -> dict[str, bytes]:
        """Length and header of weight files by name: by range requests, several at a time."""
        heads: dict[str, bytes] = {}
        failed: list[str] = []

        def read(file: SourceFile) -> None:
            try:
                heads[file.name] = self._read_head(self._request(commit, file.name), file)
            except Exception:
                failed.append(file.name)
                raise

        def read_missing() -> None:
            failed.clear()
            with ThreadPoolExecutor(HEADER_THREADS) as pool:
                list(pool.map(read, [file for file in files if file.name not in heads]))

        # Only this thread waits between attempts, so that an interrupt is not held up by others.
        with _quiet(), _telling(lambda: self._request(commit, failed[0] if failed else None)):
            with_retry(read_missing, judge, self.policy, Silent().note)
        return heads

    def _read_head(self, request: Request, file: SourceFile) -> bytes:
        first_bytes = min(FIRST_READ_BYTES, file.size_bytes)
        head = self._read_start(request, first_bytes) if first_bytes else b""
        num_head_bytes = header_bytes(head[:LENGTH_BYTES], file.name, file.size_bytes)
        if num_head_bytes <= len(head):
            return head[:num_head_bytes]
        return self._read_start(request, num_head_bytes)

    def _read_start(self, request: Request, num_bytes: int) -> bytes:
        """The first bytes of a file, through the client's own HTTP session and headers.

        The body is read no further than wanted, so a server that ignores the range costs nothing.
        """
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        url = hf_hub_url(self.repo, request.name, revision=request.revision, endpoint=self.endpoint)
        asked = {"Range": f"bytes=0-{num_bytes - 1}", "Accept-Encoding": "identity"}
        headers = {**build_hf_headers(), **asked}
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        session = get_session()
        if callable(getattr(session, "stream", None)):  # httpx; with requests it is a setting
            opened = session.stream("GET", url, headers=headers, timeout=timeout)
        else:
            opened = session.get(url, headers=headers, timeout=timeout, stream=True)
        head = bytearray()
        with opened as response:
            hf_raise_for_status(response)
            read = getattr(response, "iter_bytes", None) or response.iter_content
            for block in read(64 << 10):
                head += block
                if len(head) >= num_bytes:
                    break
        if len(head) < num_bytes:
            raise ConnectionError(f"{len(head)} of {num_bytes} bytes came")
        return bytes(head[:num_bytes])

    def _guarded(self, action: Callable[[], T], request: Request, progress: Progress) -> T:
        """Call the client, again where that may help, and tell failures in our words."""
        with _telling(lambda: request):
            return with_retry(action, judge, self.policy, progress.note)

    def _request(self, revision: str, name: str | None = None) -> Request:
        from huggingface_hub import constants

        endpoint = (self.endpoint or str(constants.ENDPOINT)).rstrip("/")
        return Request(endpoint, self.repo, revision, name)

    def _blobs(self) -> Path:
        from huggingface_hub import constants

        root = Path(self.cache_dir or constants.HF_HUB_CACHE)
        return root / f"models--{self.repo.replace('/', '--')}" / "blobs"


@contextmanager
def _telling(what: Callable[[], Request]) -> Iterator[None]:
    """Tell failures of hub, network and cache in our words; others pass as they are."""
    try:
        yield
    except Exception as error:
        explained = explain(error, what())
        if explained is None:
            raise
        raise explained from None


def _source_file(sibling: Any) -> SourceFile:
    """A file as the hub describes it. LFS files have a SHA-256, all others git's blob id."""
    lfs = sibling.lfs
    if lfs is not None:
        return SourceFile(str(sibling.rfilename), int(lfs.size), sha256=str(lfs.sha256))
    blob = sibling.blob_id
    return SourceFile(str(sibling.rfilename), int(sibling.size), git_blob=blob and str(blob))


def _refuse_too_large(file: SourceFile) -> None:
    """The client fetches files of more than 50 GB by the xet protocol only."""
    from huggingface_hub import constants

    has_xet = not constants.HF_HUB_DISABLE_XET and find_spec("hf_xet") is not None
    if file.size_bytes > constants.MAX_HTTP_DOWNLOAD_SIZE and not has_xet:
        raise MachineError(
            f"`{file.name}` has {file.size_bytes:,} bytes, too many for plain HTTP",
            hint="install `hf-xet`, and do not set `HF_HUB_DISABLE_XET`",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars, warnings or log lines of the client: what matters reaches the user through us."""
    from huggingface_hub import logging
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    bars, verbosity = not are_progress_bars_disabled(), logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if bars:
            disable_progress_bars()
        if "HF_HUB_VERBOSITY" not in os.environ and not os.environ.get("HF_DEBUG"):
            logging.set_verbosity_error()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                enable_progress_bars()
