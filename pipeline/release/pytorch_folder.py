"""The release folder of a package without an engine: the source checkpoint, and how to serve it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import Artifact, Json, place, write_json
from pipeline.checkpoint.huggingface import CONFIG_NAME
from pipeline.engines.attention_proof import not_observed, write_proof
from pipeline.progress import Progress
from pipeline.release.folder import (
    find_licence,
    list_artifact_files,
    seal,
    source_identity,
)
from pipeline.release.manifest import ReleaseManifest
from pipeline.release.pytorch_carry import Carriage, serve_yaml
from pipeline.release.pytorch_readme import render_pytorch_readme
from pipeline.release.readme import README_NAME
from pipeline.sources.selection import LICENCE_NAME, MODELOPT_NAME

CHECKPOINT = "checkpoint"
SERVE_NAME = "serve.yaml"
CARRIED_NAME = "carried.json"

NOT_BUILT = "a package of kind `pytorch` has no engine"
NOT_EXECUTED = "nothing was executed"


def write_pytorch_folder(
    folder: Path,
    download: Artifact,
    carriage: Carriage,
    *,
    name: str,
    recipe: Mapping[str, Json],
    tools: Mapping[str, str],
    progress: Progress,
) -> ReleaseManifest:
    """Link the checkpoint's files, write `serve.yaml` and the records; hash each file once.

    Licence texts stand at the top as well. Raises OSError where the folder cannot be written.
    """
    chosen = {}
    for file, path in list_artifact_files(download).items():
        chosen[f"{CHECKPOINT}/{file}"] = path
        if LICENCE_NAME.fullmatch(file):
            chosen[file] = path
    for release_name, path in chosen.items():
        place(path, folder / release_name)
    records = _records(recipe, carriage, folder / CHECKPOINT)
    (folder / SERVE_NAME).write_bytes(serve_yaml(carriage.options))
    write_json(
        folder / CARRIED_NAME,
        {"options": dict(carriage.options), "without_meaning": dict(carriage.idle)},
    )
    write_proof(folder, records["attention"])
    source, licence = source_identity(download), find_licence(chosen)
    readme = render_pytorch_readme(name, source, licence, records, carriage)
    (folder / README_NAME).write_bytes(readme.encode())
    return seal(
        folder,
        name=name,
        recipe=recipe,
        tools=tools,
        source=source,
        licence=licence,
        stage_keys={"download": download.key},
        records=records,
        progress=progress,
    )


def _records(
    recipe: Mapping[str, Json], carriage: Carriage, checkpoint: Path
) -> dict[str, dict[str, Json]]:
    """The manifest's records; what was not done is empty, or says so."""
    return {
        "attention": {
            "requested": dict(recipe["engine"]["attention"]),
            "built": {"status": "not built", "evidence": NOT_BUILT},
            "observed": not_observed(NOT_EXECUTED),
        },
        "build": {},
        "engine": {
            "backend": "pytorch",
            "dtype": carriage.options["dtype"],
            "targets": [],
            "quantization": quantization_of(checkpoint),
            "serve": dict(carriage.options),
            **{
                key: carriage.options[key]
                for key in ("max_batch_size", "max_input_len", "max_seq_len")
            },
        },
        "parity": {},
        "smoke": {},
    }


def quantization_of(checkpoint: Path) -> str:
    """How a checkpoint says that its weights are quantised; `none` where it does not.

    Source: TensorRT-LLM 1.3, `_torch/model_config.py` (hf_quant_config.json of Model-Optimizer
    first, then config.json's `quantization_config`).
    """
    path = checkpoint / MODELOPT_NAME
    if path.is_file():
        document = json.loads(path.read_bytes())
        return str(document.get("quantization", {}).get("quant_algo"))
    config = json.loads((checkpoint / CONFIG_NAME).read_bytes())
    stated = config.get("quantization_config") or {}
    return str(stated.get("quant_method", "none"))
