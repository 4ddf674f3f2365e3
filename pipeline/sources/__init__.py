"""Where a source checkpoint comes from: a local folder, or a Hugging Face Hub repo.

Both kinds offer `listing`, `checkpoint()`, `read_text(name)` and `fetch(out_dir, progress)`.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.recipe.schema import Source
from pipeline.sources.digest_memory import DigestMemory
from pipeline.sources.hub import HubSource, open_hub
from pipeline.sources.hub_client import HubClient
from pipeline.sources.hub_memory import HubMemory
from pipeline.sources.listing import SourceFile, SourceListing
from pipeline.sources.local import LocalSource, open_local

__all__ = [
    "HubSource",
    "LocalSource",
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
) -> LocalSource | HubSource:
    """List what a recipe's `source` holds; no weight is read or downloaded.

    `base_dir` is the folder that a local path is relative to. `offline` forbids all requests.
    Digests of local files that `memory` does not know stay unknown until `hashed()`. Raises
    RecipeError, VerificationError, MachineError or RemoteError, by who is at fault.
    """
    if source.path is not None:
        return open_local(source.path, base_dir, memory)
    assert source.repo is not None, "the recipe has neither `path` nor `repo`"
    client = HubClient(source.repo, offline=offline)
    return open_hub(client, source.revision, HubMemory(memory.root, source.repo))
