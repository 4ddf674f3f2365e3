"""What a stage is: a function from the plan and its input artifacts to one artifact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from pipeline.artifact import Artifact, Json, digest_json
from pipeline.plan import SourcePlan
from pipeline.progress import Progress

Inputs = Mapping[str, Artifact]
"""The artifacts of the stages named in `Stage.inputs`, by stage name."""


ReadPlan_contra = TypeVar("ReadPlan_contra", bound=SourcePlan, contravariant=True)
"""The kind of plan that a stage reads. A stage that reads less of it fits any plan."""


@dataclass(frozen=True, slots=True)
class Stage(Generic[ReadPlan_contra]):
    """One step of the pipeline.

    `settings` returns exactly the plan values that the stage reads: they enter its key, so a value
    that is read but not returned there would make reuse wrong. It returns None while they are not
    known yet (a local source that was never hashed).
    `run` writes the artifact's files into the folder that it is given and returns the facts for
    the artifact's manifest: JSON, the same for the same key (no times, hosts or absolute paths).
    `summary` turns these facts into one line for people.
    A `resumable` stage may be given a folder with what an earlier run of the same key had written
    when it was ended, at any time until it is published. It keeps a journal there
    (`journal.JOURNAL_NAME`) by which it knows what of it is good, and removes the rest. The journal
    stays: publishing removes it.
    """

    name: str
    version: int
    inputs: tuple[str, ...]
    settings: Callable[[ReadPlan_contra], Json]
    run: Callable[[ReadPlan_contra, Inputs, Path, Progress], Mapping[str, Json]]
    summary: Callable[[Mapping[str, Json]], str]
    resumable: bool = False

    def key(self, plan: ReadPlan_contra, input_keys: Mapping[str, str]) -> str | None:
        """BLAKE3 over name, version, settings and input keys; None while one is not known."""
        settings = self.settings(plan)
        if settings is None or any(name not in input_keys for name in self.inputs):
            return None
        return digest_json(
            {
                "stage": self.name,
                "version": self.version,
                "settings": settings,
                "inputs": {name: input_keys[name] for name in self.inputs},
            }
        )


AnyStage: TypeAlias = Stage[Any]
"""A stage, whichever plan it reads: the runner gives it the plan that its tuple belongs to."""
