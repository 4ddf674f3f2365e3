"""Holds the ONNX graph of a release against its record and against the files beside it."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.artifact import Json
from pipeline.errors import VerificationError
from pipeline.onnx_files.external import external_faults
from pipeline.onnx_files.model import Model
from pipeline.onnx_files.reading import MAX_FILE_BYTES, parse_model
from pipeline.onnx_files.record import graph_record
from pipeline.release.contents import Contents

ENGINE_FOLDER = "engine"


def check_graph(engine: Mapping[str, Json], contents: Contents) -> None:
    """Check the graph that an engine's record describes; nothing where it describes none.

    Every byte is as it was packed when this is asked: it finds what was packed wrongly. Raises
    VerificationError where the graph is not what is stated, or its weights are not where it says.
    """
    stated = engine.get("graph")
    if not isinstance(stated, Mapping):
        return
    name = f"{ENGINE_FOLDER}/{stated.get('file')}"
    if name not in contents.files:
        raise VerificationError(f"the release `{contents.path}` lacks its graph `{name}`")
    model = parse_model(contents.files[name].read(MAX_FILE_BYTES), name)
    faults = graph_faults(model, stated, contents)
    if faults:
        raise VerificationError(
            f"the graph `{name}` of the release `{contents.path}` is not what its record states",
            facts=faults,
            hint="make the release again from its recipe",
        )


def graph_faults(model: Model, stated: Mapping[str, Json], contents: Contents) -> list[str]:
    """Every difference to the record, and every fault of the external data."""

    def size_of(location: str) -> int | None:
        extent = contents.files.get(f"{ENGINE_FOLDER}/{location}")
        return None if extent is None else extent.size_bytes

    found = graph_record(model, size_of)
    differences = [
        f"`{key}` is {found_part}, stated {stated_part}"
        for key in found
        for found_part, stated_part in _differences(found[key], stated.get(key))
    ]
    return differences + external_faults(model, size_of)


def _differences(found: Json, stated: Json) -> list[tuple[str, str]]:
    """Unequal values; of two lists of one length, the rows that differ."""
    if isinstance(found, list) and isinstance(stated, list) and len(found) == len(stated):
        pairs = zip(found, stated, strict=True)
        return [(str(one), str(other)) for one, other in pairs if one != other]
    return [(_short(found), _short(stated))] if found != stated else []


def _short(value: Json) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
