"""The attention proof of an engine: what was requested, what was built, what was observed.

Three answers that are never mixed: a recipe's wish proves nothing about an engine, and a build
proves nothing about an execution. What was not observed is written as not observed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import Json, write_json
from pipeline.errors import VerificationError
from pipeline.recipe.schema import Attention

PROOF_NAME = "attention.json"

STATUSES = ("fused", "unfused", "unknown")
NOT_OBSERVED = "not observed"
"""The status of an `observed` where the engine was not executed, or nothing watched it."""


def proof(
    requested: Attention, built: Mapping[str, Json], observed: Mapping[str, Json]
) -> dict[str, Json]:
    """The document; `built` and `observed` have a `status` and say what it rests on."""
    assert built["status"] in STATUSES
    return {
        "requested": requested.model_dump(mode="json"),
        "built": dict(built),
        "observed": dict(observed),
    }


def not_observed(reason: str) -> dict[str, Json]:
    """The answer where the engine was not executed."""
    return {"status": NOT_OBSERVED, "reason": reason}


def with_observed(document: Mapping[str, Json], observed: Mapping[str, Json]) -> dict[str, Json]:
    """A build's proof with what an execution showed in the place of its `observed`."""
    assert observed["status"] in (*STATUSES, NOT_OBSERVED)
    return {**document, "observed": dict(observed)}


def check_observed(observed: Mapping[str, Json], required: Attention) -> None:
    """Raise VerificationError where fused attention is required and unfused attention ran.

    What is unknown or was not observed contradicts nothing: the build's proof stands.
    """
    if required.require_fused and observed["status"] == "unfused":
        facts = [
            f"{phase}: {name}"
            for phase in ("context", "generation")
            if observed[phase]["status"] == "unfused"
            for name in observed[phase]["kernels"]
        ]
        raise VerificationError(
            "`engine.attention.require_fused` is true, but the traced pass ran unfused attention",
            facts=facts,
            hint="`trtllm-pack plan` says what each target supports; build again, and see the log",
        )


def write_proof(folder: Path, document: Mapping[str, Json]) -> None:
    """Store a proof in its engine folder."""
    write_json(folder / PROOF_NAME, dict(document))


def read_proof(folder: Path) -> dict[str, Json]:
    """The proof of an engine folder. Raises VerificationError where there is no whole one."""
    path = folder / PROOF_NAME
    try:
        document: dict[str, Json] = json.loads(path.read_bytes())
        statuses = [document[part]["status"] for part in ("built", "observed")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VerificationError(f"`{path}` is not an attention proof: {error}") from None
    if statuses[0] not in STATUSES:
        raise VerificationError(f"`{path}` has the unknown status `{statuses[0]}`")
    return document


def check_proof(document: Mapping[str, Json], required: Attention) -> None:
    """Raise VerificationError where fused attention is required and not proved by the build.

    Sites of the graph, layers of the engine and the status must agree: each guards the others.
    """
    built = document["built"]
    sites, layers = built["attention_sites"], built["attention_layers"]
    whole = built["status"] == "fused" and sites == layers
    if required.require_fused and not whole:
        raise VerificationError(
            f"`engine.attention.require_fused` is true, but the engine's attention is "
            f"{built['status']}: {layers} layers for {sites} sites",
            facts=[str(built["evidence"])],
            hint="`trtllm-pack plan` says what each target supports",
        )
