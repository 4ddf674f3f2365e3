"""Download: the source checkpoint as verified files, from a hub repo or a local folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import Json
from pipeline.files.journal import clear
from pipeline.plan import SourcePlan
from pipeline.progress import Progress
from pipeline.stages.stage import Inputs, Stage
from pipeline.wording import counted


def settings(plan: SourcePlan) -> Json:
    """Names, sizes and digests of the files; of a hub repo also its name and commit.

    Where a local folder lies does not count: equal files give an equal key.
    """
    return plan.source.listing.identity()


def run(plan: SourcePlan, _: Inputs, out_dir: Path, progress: Progress) -> Mapping[str, Json]:
    """Bring every needed file into the artifact, each compared with its digest.

    Raises VerificationError where one is not what a frozen lock says, also of files that the hub
    publishes a git blob id of, and no SHA-256.
    """
    listing = plan.source.listing
    if listing.kind != "local":  # a copy from a folder goes on by itself
        clear(out_dir)
    files = plan.source.fetch(out_dir, progress)
    if plan.pin is not None:
        plan.pin.check_fetched(listing.where, files)
    return {
        "kind": listing.kind,
        "repo": listing.repo,
        "commit": listing.commit,
        "files": files,
    }


def summary(facts: Mapping[str, Json]) -> str:
    """For example `owner/name at 0123456789ab, 9 files, 1,519.4 MB`."""
    total_bytes = sum(file["size_bytes"] for file in facts["files"])
    origin = f"{facts['repo']} at {facts['commit'][:12]}" if facts["repo"] else "local folder"
    return f"{origin}, {counted(len(facts['files']), 'file')}, {total_bytes / 1e6:,.1f} MB"


STAGE = Stage("download", 1, (), settings, run, summary, resumable=True)
