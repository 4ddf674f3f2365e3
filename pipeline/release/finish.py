"""What every release ends with, whatever is in it: the tar, and what is told about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifact import Json
from pipeline.progress import Progress
from pipeline.release.digests import list_extents
from pipeline.release.manifest import ReleaseManifest
from pipeline.release.tar import write_tar

if TYPE_CHECKING:
    from pipeline.recipe.schema import Recipe
    from pipeline.sources.listing import SourceListing


def portable_recipe(recipe: Recipe, listing: SourceListing) -> dict[str, Json]:
    """The recipe with every default filled in, and its source as it was resolved.

    A repo stands at its commit. A local folder is left out: its place says nothing about what
    it held, and its digests are in the lock.
    """
    document: dict[str, Json] = recipe.model_dump(mode="json")
    del document["source"]
    if listing.repo is not None:
        hub = {"hub": "modelscope"} if listing.kind == "modelscope" else {}
        code = {"remote_code": recipe.source.remote_code} if recipe.source.remote_code else {}
        document["source"] = {"repo": listing.repo, **hub, "revision": listing.commit, **code}
    return document


def finish_release(
    out_dir: Path, manifest: ReleaseManifest, formats: Sequence[str], progress: Progress
) -> dict[str, Json]:
    """Pack `<name>.tar` where it is asked for; the facts of the stage. The folder is written."""
    name = manifest.name
    contents = list_extents(out_dir / name)
    facts: dict[str, Json] = {
        "folder": name,
        "num_files": len(contents),
        "size_bytes": sum(extent.size_bytes for extent in contents.values()),
        "licence": manifest.licence.model_dump(mode="json"),
    }
    if "tar" in formats:
        tar = out_dir / f"{name}.tar"
        facts["tar"] = tar.name
        facts["tar_sha256"] = write_tar(tar, name, contents, progress)
        facts["tar_bytes"] = tar.stat().st_size
    return facts


def release_summary(facts: Mapping[str, Json]) -> str:
    """For example `demo: 18 files, 4,000,000 bytes; demo.tar with SHA-256 ...; licence LICENSE`."""
    parts = [f"{facts['folder']}: {facts['num_files']} files, {facts['size_bytes']:,} bytes"]
    if "tar" in facts:
        parts.append(f"{facts['tar']} with SHA-256 {facts['tar_sha256'][:16]}")
    parts.append(f"licence {', '.join(facts['licence']['files']) or facts['licence']['status']}")
    return "; ".join(parts)
