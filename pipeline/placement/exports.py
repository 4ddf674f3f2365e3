"""Places artifacts in folders of the user's: whole, and never over anything else."""

from __future__ import annotations

from pathlib import Path

from pipeline.artifact import MANIFEST_NAME, Artifact, read_artifact
from pipeline.errors import PipelineError, UsageError
from pipeline.placement.replacing import holds_nothing, replace, restore, was_taken_down
from pipeline.system.refusals import file_error


def export(artifact: Artifact, out_dir: Path) -> None:
    """Place an artifact in a folder of the user's, whole or not at all.

    An earlier export of the same stage (and, of a release, the same name) is replaced. Raises
    UsageError where the folder holds something else, MachineError or ResourceError where it cannot
    be written. Where `out_dir` is a link to a folder, that folder is meant.
    """
    try:
        # `.` and `..` have no name to put another beside.
        out_dir = (
            out_dir.resolve()
            if out_dir.is_symlink() or out_dir.name in {"", ".."}
            else out_dir.absolute()
        )
        check_out_dir(out_dir, artifact.manifest.stage, artifact.facts.get("folder"))
        restore(out_dir)
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        replace(artifact, out_dir)
    except OSError as error:
        hint = "the artifact is whole in the store; name another folder by `--out`"
        raise file_error(error, out_dir, "cannot be written", hint) from None


def check_out_dir(out_dir: Path, stage: str, release: str | None) -> None:
    """Refuse a folder that an artifact of `stage` may not replace, before any work is done for it.

    `release` is the name of the release, None for other artifacts. Raises UsageError, MachineError.
    """
    try:
        if not out_dir.exists() or holds_nothing(out_dir):
            return
        if not (out_dir / MANIFEST_NAME).is_file():
            if was_taken_down(out_dir):
                return
            raise UsageError(
                f"`{out_dir}` holds files that are not an earlier artifact",
                hint="name a new or empty folder by `--out`",
            )
    except OSError as error:
        hint = "name another folder by `--out`"
        raise file_error(error, out_dir, "cannot be used", hint) from None
    try:
        earlier = read_artifact(out_dir)
    except PipelineError:
        return  # damaged: what is put in its place is whole
    there = _title(earlier.manifest.stage, earlier.facts.get("folder"))
    ours = _title(stage, release)
    if there != ours:
        raise UsageError(
            f"`{out_dir}` holds {there}, which {ours} would replace",
            hint="name another folder by `--out`, or remove this one",
        )


def _title(stage: str, release: str | None) -> str:
    """What a folder holds, for people; a release has a name of its own."""
    return f"the artifact of `{stage}`" if release is None else f"the release `{release}`"
