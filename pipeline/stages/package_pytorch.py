"""Package without an engine: the source checkpoint and the options of `trtllm-serve`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline import __version__
from pipeline.artifact import Json, check_digests
from pipeline.progress import Progress
from pipeline.pytorch_plan import PytorchPlan
from pipeline.release.finish import finish_release, portable_recipe, release_summary
from pipeline.release.pytorch_folder import write_pytorch_folder
from pipeline.stages.stage import Inputs, Stage


def settings(plan: PytorchPlan) -> Json:
    """The recipe and this version are written into the manifest, so they decide its bytes."""
    return {
        "recipe": portable_recipe(plan.recipe, plan.source.listing),
        "tools": {"trtllm-pack": __version__},
        "options": dict(plan.carriage.options),
        "without_meaning": dict(plan.carriage.idle),
    }


def run(plan: PytorchPlan, inputs: Inputs, out_dir: Path, progress: Progress) -> Mapping[str, Json]:
    """Lay out the release folder `<name>/`, then pack `<name>.tar`; the weights are linked.

    Raises VerificationError where a byte of the source changed in the store.
    """
    check_digests(inputs["download"])
    name = plan.recipe.name
    manifest = write_pytorch_folder(
        out_dir / name,
        inputs["download"],
        plan.carriage,
        name=name,
        recipe=portable_recipe(plan.recipe, plan.source.listing),
        tools={"trtllm-pack": __version__},
        progress=progress,
    )
    return finish_release(out_dir, manifest, plan.recipe.package.formats, progress)


STAGE = Stage(
    name="package",
    version=1,
    inputs=("download",),
    settings=settings,
    run=run,
    summary=release_summary,
)
