"""The release folder of a package without an engine: the source checkpoint, and how to serve it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import Artifact, Json, write_json
from pipeline.checkpoint.huggingface import CONFIG_NAME
from pipeline.checkpoint.strict_json import parse_object, printable
from pipeline.engines.attention_proof import not_observed, write_proof
from pipeline.errors import VerificationError
from pipeline.placement.placing import place
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

MAX_NAME = 100
"""Of a kind of quantisation; the longest of Model-Optimizer has some 30 letters."""

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
        stated = parse_object(path.read_bytes(), MODELOPT_NAME).get("quantization")
        return _told(stated, "quant_algo", MODELOPT_NAME, "None")
    config = parse_object((checkpoint / CONFIG_NAME).read_bytes(), CONFIG_NAME)
    return _told(config.get("quantization_config"), "quant_method", CONFIG_NAME, "none")


def _told(stated: Json, key: str, file: str, absent: str) -> str:
    """The name of a quantisation. Raises VerificationError for what is no short text."""
    value = (stated or {}).get(key) if isinstance(stated, dict | None) else stated
    if value is None:
        return absent
    if not isinstance(value, str) or len(value) > MAX_NAME or not value.isprintable():
        raise VerificationError(
            f"`{file}` says `{printable(str(value))}` of the quantisation, expected an object "
            f"whose `{key}` is a short text"
        )
    return value
