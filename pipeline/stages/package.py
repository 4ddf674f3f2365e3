"""Package: the release folder and its tar, from the artifacts of all stages before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline import __version__
from pipeline.artifact import Json
from pipeline.plan import Plan
from pipeline.progress import Progress
from pipeline.release.folder import list_extents, write_folder
from pipeline.release.tar import write_tar
from pipeline.stages.stage import Inputs, Stage


def settings(plan: Plan) -> Json:
    """The recipe and the tools are written into the manifest, so they decide its bytes."""
    return {"recipe": _portable_recipe(plan), "tools": _tools(plan)}


def _portable_recipe(plan: Plan) -> dict[str, Json]:
    """The recipe with every default filled in, and its source as it was resolved.

    A hub repo stands at its commit. A local folder is left out: its place says nothing about what
    it held, and its digests are in the lock.
    """
    recipe: dict[str, Json] = plan.recipe.model_dump(mode="json")
    del recipe["source"]
    listing = plan.source.listing
    if listing.kind == "hub":
        recipe["source"] = {"repo": listing.where, "revision": listing.commit}
    return recipe


def _tools(plan: Plan) -> dict[str, str]:
    return {"trtllm-pack": __version__, **plan.build_tools}


def run(plan: Plan, inputs: Inputs, out_dir: Path, progress: Progress) -> Mapping[str, Json]:
    """Lay out the release folder `<name>/`, then pack `<name>.tar`; big files are linked."""
    name = plan.recipe.name
    folder = out_dir / name
    manifest = write_folder(
        folder,
        inputs,
        name=name,
        recipe=_portable_recipe(plan),
        tools=_tools(plan),
        progress=progress,
    )
    contents = list_extents(folder)
    facts: dict[str, Json] = {
        "folder": name,
        "num_files": len(contents),
        "size_bytes": sum(extent.size_bytes for extent in contents.values()),
        "licence": manifest.licence.model_dump(mode="json"),
    }
    if "tar" in plan.recipe.package.formats:
        tar = out_dir / f"{name}.tar"
        facts["tar"] = tar.name
        facts["tar_sha256"] = write_tar(tar, name, contents, progress)
        facts["tar_bytes"] = tar.stat().st_size
    return facts


def summary(facts: Mapping[str, Json]) -> str:
    """For example `demo: 18 files, 4,000,000 bytes; demo.tar with SHA-256 ...; licence LICENSE`."""
    parts = [f"{facts['folder']}: {facts['num_files']} files, {facts['size_bytes']:,} bytes"]
    if "tar" in facts:
        parts.append(f"{facts['tar']} with SHA-256 {facts['tar_sha256'][:16]}")
    parts.append(f"licence {', '.join(facts['licence']['files']) or facts['licence']['status']}")
    return "; ".join(parts)


STAGE = Stage(
    name="package",
    version=1,
    inputs=("download", "convert", "verify", "build", "smoke"),
    settings=settings,
    run=run,
    summary=summary,
)
