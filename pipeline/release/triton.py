"""A Triton model repository inside a release: its files.

Triton opens `gpt_model_path` as it stands, so the engine is named relative to the folder in which
`tritonserver` is started, the release's own: nothing is copied, nothing is tied to a place. The
Python models find the tokenizer from where they lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from pydantic import ValidationError

from pipeline.artifact import Json, canonical_json
from pipeline.errors import VerificationError
from pipeline.recipe.schema import Serving
from pipeline.release.triton_engine import read_served_engine
from pipeline.release.triton_models import models
from pipeline.release.triton_text import write_text

FOLDER = "triton"
ENGINE_CONFIG = "engine/config.json"
"""TensorRT-LLM's own record of the engine."""

CONFIG_NAME = "config.pbtxt"
PYTHON_MODELS = ("postprocessing", "preprocessing")
CODELESS_MODELS = ("ensemble", "tensorrt_llm")

HEADING = (
    "Made by trtllm-pack from the engine beside this folder; `trtllm-pack verify` compares them."
)
VERSION_NOTE = (
    "Triton wants a version folder for each model. This model has nothing in it: the engine is in "
    "`engine/` of the release.\n"
)


def repository_files(config: Mapping[str, Json], serving: Serving) -> dict[str, bytes]:
    """Every file by its name in the release, from an engine's config.json.

    Raises VerificationError where that is not one of TensorRT-LLM 1.2.
    """
    engine = read_served_engine(config)
    found = {
        f"{FOLDER}/{name}/{CONFIG_NAME}": write_text(model, HEADING)
        for name, model in models(engine, serving).items()
    }
    code = files("pipeline.release").joinpath("triton_python")
    for name in PYTHON_MODELS:
        found[f"{FOLDER}/{name}/1/model.py"] = code.joinpath(f"{name}.py").read_bytes()
    for name in CODELESS_MODELS:
        found[f"{FOLDER}/{name}/1/about.txt"] = VERSION_NOTE.encode()
    return found


def triton_serving(recipe: Mapping[str, Json]) -> Serving | None:
    """How Triton serves a release of this recipe (as its manifest has it); None where it does not.

    Raises VerificationError where the recipe is not of this version.
    """
    package = recipe.get("package", {})
    if "triton" not in package.get("formats", []):
        return None
    try:
        return Serving.model_validate_json(canonical_json(package.get("serving", {})))
    except ValidationError:
        raise VerificationError(
            "this version of trtllm-pack does not know the recipe's `package.serving`"
        ) from None
