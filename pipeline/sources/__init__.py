"""Where a source checkpoint comes from: a local folder, a Hugging Face Hub repo, or ModelScope.

All kinds offer `listing`, `checkpoint()`, `read_text(name)` and `fetch(out_dir, progress)`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.progress import no_note
from pipeline.recipe.schema import Source
from pipeline.sources.digest_memory import DigestMemory
from pipeline.sources.hub.client import HubClient
from pipeline.sources.hub.endpoints import find_mirror, memory_name
from pipeline.sources.hub.repo import open_hub
from pipeline.sources.hub.settings import check_settings
from pipeline.sources.listing import SourceFile, SourceListing
from pipeline.sources.local import LocalSource, open_local
from pipeline.sources.pin import Pin
from pipeline.sources.remote.memory import RepoMemory
from pipeline.sources.remote.source import RemoteSource, open_remote

AnySource = LocalSource | RemoteSource

__all__ = [
    "AnySource",
    "LocalSource",
    "Pin",
    "RemoteSource",
    "SourceFile",
    "SourceListing",
    "open_source",
]


def open_source(
    source: Source,
    base_dir: Path,
    memory: DigestMemory,
    *,
    offline: bool = False,
    pin: Pin | None = None,
    note: Callable[[str], None] = no_note,
) -> AnySource:
    """List what a recipe's `source` holds; no weight is read or downloaded.

    `base_dir` is the folder that a local path is relative to. `offline` forbids all requests.
    With a `pin` the source is opened at its commit, so no branch is asked for; where it is frozen,
    every file must be the locked one, for which a local source is hashed. Digests of local files
    that `memory` does not know stay unknown otherwise, until `hashed()`. `note` is told where a
    site is asked once more. Raises RecipeError, VerificationError, MachineError or RemoteError, by
    who is at fault.
    """
    if pin is None:
        return _open(source, base_dir, memory, offline, note)
    locked = source if pin.commit is None else source.model_copy(update={"revision": pin.commit})
    try:
        opened = _open(locked, base_dir, memory, offline, note)
    except PipelineError as error:
        folder = None if source.path is None else base_dir / Path(source.path).expanduser()
        raise pin.explain(error, folder) from None
    if pin.is_frozen:
        opened = opened.hashed()
        pin.check(opened.listing)
    return opened


def _open(
    source: Source,
    base_dir: Path,
    memory: DigestMemory,
    offline: bool,
    note: Callable[[str], None],
) -> AnySource:
    if source.path is not None:
        return open_local(source.path, base_dir, memory, source.remote_code)
    assert source.repo is not None, "the recipe has neither `path` nor `repo`"
    if source.hub == "modelscope":
        return _open_modelscope(source, memory, offline, note)
    check_settings()
    mirror = find_mirror(source.endpoint)
    is_theirs = mirror is not None
    client = HubClient(source.repo, mirror, offline=offline, anonymous=is_theirs, note=note)
    memory_of_repo = RepoMemory(memory.root, memory_name(source.repo, mirror))
    return open_hub(client, source.revision, memory_of_repo, source.remote_code)


def _open_modelscope(
    source: Source, memory: DigestMemory, offline: bool, note: Callable[[str], None]
) -> RemoteSource:
    # Its HTTP client takes time to import, which other sources need not spend.
    from pipeline.sources.modelscope.client import ModelScopeClient
    from pipeline.sources.modelscope.site import find_site

    assert source.repo is not None, "ModelScope has repos alone"
    site = find_site()
    client = ModelScopeClient(source.repo, memory.root, site, offline, note=note)
    memory_of_repo = RepoMemory(memory.root, site.memory_name(source.repo))
    return open_remote(client, source.revision, memory_of_repo, memory, source.remote_code)
