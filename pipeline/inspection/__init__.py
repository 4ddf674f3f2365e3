"""Explains what lies at a path: recipe, checkpoint, weight or ONNX file, engine, artifact, release.

Only headers, configs and records are read, never weights. The answer is a JSON document with the
keys `kind` and `path` and sections that depend on the kind.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.artifact import MANIFEST_NAME, Json
from pipeline.checkpoint.strict_json import read_object
from pipeline.engines.engine import CONFIG_NAME as ENGINE_RECORD_NAME
from pipeline.errors import UsageError
from pipeline.inspection.checkpoints import (
    inspect_source_checkpoint,
    inspect_trtllm_checkpoint,
    inspect_weight_file,
)
from pipeline.inspection.onnx_models import ONNX_SUFFIX, inspect_onnx, inspect_onnx_folder
from pipeline.inspection.products import (
    inspect_artifact,
    inspect_engine,
    inspect_recipe,
    inspect_release,
)
from pipeline.inspection.text import inspection_text
from pipeline.release.contents import is_release
from pipeline.system.refusals import file_error

__all__ = ["inspect_path", "inspection_text"]

INSPECTABLE = (
    "a recipe (`.yaml`)",
    "a source checkpoint (a folder whose `config.json` has `architectures`)",
    "a weight file or rank file (`.safetensors`)",
    "a TensorRT-LLM checkpoint (a folder whose `config.json` has `architecture`)",
    "an engine folder (a folder with `engine.json`)",
    "a release (a folder with `manifest.json`, a `.tar`, or an OCI layout of one)",
    "an artifact of the store (a folder with `artifact.json`)",
    "an ONNX model (`.onnx`, or a folder that holds one)",
)


def inspect_path(path: Path) -> dict[str, Json]:
    """The document of whatever is at `path`.

    Raises UsageError, with what can be inspected, for anything else; VerificationError, RecipeError
    or MachineError where it is of a known kind but damaged, wrong or unreadable.
    """
    try:
        if not path.exists():
            raise UsageError(f"`{path}` does not exist", hint="name an existing file or folder")
        if not path.is_dir() and not path.is_file():
            raise UsageError(f"`{path}` is neither a file nor a folder")
        document = _inspect_folder(path) if path.is_dir() else _inspect_file(path)
    except OSError as error:
        raise file_error(error, error.filename or path, "cannot be read") from None
    if document is None:
        raise UsageError(
            f"`{path}` is nothing that can be inspected",
            facts=[f"can be inspected: {kind}" for kind in INSPECTABLE],
            hint="name one of these",
        )
    return {"path": str(path), **document}


def _inspect_file(path: Path) -> dict[str, Json] | None:
    if path.suffix in {".yaml", ".yml"}:
        return inspect_recipe(path)
    if path.suffix == ".safetensors":
        return inspect_weight_file(path)
    if path.suffix == ONNX_SUFFIX:
        return inspect_onnx(path)
    return inspect_release(path) if is_release(path) else None


def _inspect_folder(path: Path) -> dict[str, Json] | None:
    if (path / MANIFEST_NAME).is_file():
        document = inspect_artifact(path)
        content = _inspect_content(path)
        return document | ({"content": content} if content else {})
    return _inspect_content(path)


def _inspect_content(path: Path) -> dict[str, Json] | None:
    """What a folder holds, whether or not it is an artifact's."""
    if is_release(path):
        return inspect_release(path)
    releases = [entry for entry in sorted(path.iterdir()) if entry.is_dir() and is_release(entry)]
    if releases:
        return inspect_release(releases[0])
    record_path = path / ENGINE_RECORD_NAME
    if record_path.is_file():
        return inspect_engine(path, read_object(record_path, str(record_path)))
    graphs = sorted(file for file in path.glob(f"*{ONNX_SUFFIX}") if file.is_file())
    if graphs and not any(path.glob("*.safetensors")):
        return inspect_onnx_folder(graphs)
    config_path = path / "config.json"
    if not config_path.is_file():
        return None
    config = read_object(config_path, str(config_path))
    if "architectures" in config:
        return inspect_source_checkpoint(path)
    return inspect_trtllm_checkpoint(path) if "architecture" in config else None
