"""Download: the source checkpoint as verified files, from a hub repo or a local folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import Json
from pipeline.plan import SourcePlan
from pipeline.progress import Progress
from pipeline.stages.stage import Inputs, Stage


def settings(plan: SourcePlan) -> Json:
    """Names, sizes and digests of the files; of a hub repo also its name and commit.

    Where a local folder lies does not count: equal files give an equal key.
    """
    return plan.source.listing.identity()


def run(plan: SourcePlan, _: Inputs, out_dir: Path, progress: Progress) -> Mapping[str, Json]:
    """Bring every needed file into the artifact, each compared with its digest."""
    listing = plan.source.listing
    return {
        "kind": listing.kind,
        "repo": listing.where if listing.kind == "hub" else None,
        "commit": listing.commit,
        "files": plan.source.fetch(out_dir, progress),
    }


def summary(facts: Mapping[str, Json]) -> str:
    """For example `owner/name at 0123456789ab, 9 files, 1,519.4 MB`."""
    total_bytes = sum(file["size_bytes"] for file in facts["files"])
    origin = f"{facts['repo']} at {facts['commit'][:12]}" if facts["repo"] else "local folder"
    return f"{origin}, {len(facts['files'])} files, {total_bytes / 1e6:,.1f} MB"


STAGE = Stage(name="download", version=1, inputs=(), settings=settings, run=run, summary=summary)
