"""Package: the release folder and its tar, from the artifacts of all stages before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline import __version__
from pipeline.artifact import Json, check_digests
from pipeline.plan import Plan
from pipeline.progress import Progress
from pipeline.release.finish import finish_release, portable_recipe, release_summary
from pipeline.release.folder import write_folder
from pipeline.stages.stage import Inputs, Stage


def settings(plan: Plan) -> Json:
    """The recipe and the tools are written into the manifest, so they decide its bytes.

    The manifest also names the tools of the stages before, which are no part of any key.
    """
    return {"recipe": portable_recipe(plan.recipe, plan.source.listing), "tools": _tools(plan)}


def _tools(plan: Plan) -> dict[str, str]:
    return {"trtllm-pack": __version__, **plan.build_tools}


def _all_tools(plan: Plan, inputs: Inputs) -> dict[str, str]:
    """Every tool whose work is in the release; of one in several versions, all of them."""
    versions: dict[str, set[str]] = {}
    made_by = [tools for each in inputs.values() for tools in each.manifest.made_by.values()]
    for tools in (*made_by, _tools(plan)):
        for name, version in tools.items():
            versions.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(found)) for name, found in versions.items()}


def run(plan: Plan, inputs: Inputs, out_dir: Path, progress: Progress) -> Mapping[str, Json]:
    """Lay out the release folder `<name>/`, then pack `<name>.tar`; big files are linked.

    The release's digests are taken here, so the engine must still be the one that was proved.
    Raises VerificationError where it is not.
    """
    check_digests(inputs["build"])
    name = plan.recipe.name
    manifest = write_folder(
        out_dir / name,
        inputs,
        name=name,
        recipe=portable_recipe(plan.recipe, plan.source.listing),
        tools=_all_tools(plan, inputs),
        progress=progress,
    )
    return finish_release(out_dir, manifest, plan.recipe.package.formats, progress)


STAGE = Stage(
    name="package",
    version=1,
    inputs=("download", "convert", "verify", "build", "smoke"),
    settings=settings,
    run=run,
    summary=release_summary,
)
