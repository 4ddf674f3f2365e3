"""What a branch or tag of a repo stands for: the commit, and all files of the repo there."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.checkpoint.strict_json import printable
from pipeline.errors import RemoteError
from pipeline.sources.listing import COMMIT, SourceFile
from pipeline.sources.remote.client import OFFLINE_HINT, RemoteClient
from pipeline.sources.remote.memory import RepoMemory


def resolve(
    client: RemoteClient, revision: str, memory: RepoMemory
) -> tuple[str, Sequence[SourceFile]]:
    """The commit and all files of the repo there: remembered, or asked for.

    Raises RemoteError where the site cannot be asked, or answers with something else.
    """
    pinned = COMMIT.fullmatch(revision) is not None
    known = memory.files(revision) if pinned else None
    if known is not None:
        return revision, known
    if client.is_offline():
        return _resolve_offline(client, revision, memory)
    commit, files = client.describe(revision)
    if COMMIT.fullmatch(commit) is None or (pinned and commit != revision):
        raise RemoteError(
            f"{client.place.site} resolves `{printable(revision)}` of `{client.place.repo}` to "
            f"`{printable(commit)}`, which is not that commit",
            hint=client.place.endpoint_hint,
        )
    memory.remember_files(commit, files)
    if not pinned:
        memory.remember_commit(revision, commit)
    return commit, files


def _resolve_offline(
    client: RemoteClient, revision: str, memory: RepoMemory
) -> tuple[str, Sequence[SourceFile]]:
    """What a revision stood for when it was last resolved."""
    commit = memory.commit_of(revision)
    files = None if commit is None else memory.files(commit)
    if commit is None or files is None:
        raise RemoteError(
            f"`{printable(revision)}` of `{client.place.repo}` was not planned on this machine "
            "before, and the network is not to be used",
            hint=OFFLINE_HINT,
        )
    return commit, files
