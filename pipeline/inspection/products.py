"""What recipes, engines, artifacts and releases say about themselves; digests are not checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import Json, read_artifact
from pipeline.checkpoint.strict_json import read_object
from pipeline.errors import VerificationError
from pipeline.recipe.load import load_recipe
from pipeline.release.contents import Contents, read_manifest, understanding
from pipeline.release.manifest import ReleaseManifest

ATTENTION_NAME = "attention.json"
ENGINE_LIMITS = ("max_batch_size", "max_input_len", "max_seq_len")


def inspect_recipe(path: Path) -> dict[str, Json]:
    """A recipe with its parents merged and every default filled in. Raises RecipeError."""
    loaded = load_recipe(path)
    recipe = loaded.recipe.model_dump(mode="json")
    return {
        "kind": "recipe",
        "name": recipe.pop("name"),
        "files": [str(file) for file in loaded.files],
        "variants": list(loaded.variants),
        "with every default": recipe,
    }


def inspect_engine(folder: Path, config: Mapping[str, Json]) -> dict[str, Json]:
    """An engine folder with its attention proof. Raises VerificationError for damaged records."""
    if "backend" not in config:
        raise VerificationError(
            f"the record of the engine in `{folder}` names no backend",
            hint="fetch the engine again, or build it again from its recipe",
        )
    with understanding(folder):
        return _engine(folder, config)


def _engine(folder: Path, config: Mapping[str, Json]) -> dict[str, Json]:
    document: dict[str, Json] = {
        "kind": "engine",
        "backend": config["backend"],
        "dtype": config.get("dtype"),
        "targets": config.get("targets", []),
        "limits": {key: config[key] for key in ENGINE_LIMITS if key in config},
        "built with": config.get("tool_versions", {}),
    }
    proof = folder / ATTENTION_NAME
    if proof.is_file():
        document["attention"] = _proof(read_object(proof, str(proof)))
    if isinstance(config.get("graph"), Mapping):
        document["graph"] = _graph(config["graph"])
    document["files"] = [
        {"name": path.name, "size_bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.is_file()
    ]
    return document


def inspect_artifact(folder: Path) -> dict[str, Json]:
    """An artifact of the store. Raises VerificationError where a file is missing or resized."""
    artifact = read_artifact(folder)
    return {
        "kind": "artifact",
        "stage": artifact.manifest.stage,
        "key": artifact.key,
        "made from": dict(artifact.manifest.inputs),
        "made by": {name: dict(tools) for name, tools in artifact.manifest.made_by.items()},
        "size_bytes": artifact.size_bytes,
        "facts": dict(artifact.facts),
        "files": [
            {"name": entry.path, "size_bytes": entry.size_bytes}
            for entry in artifact.manifest.files
        ],
    }


def inspect_release(path: Path) -> dict[str, Json]:
    """A release, folder or tar, from its manifest. Raises VerificationError for a damaged one."""
    manifest, contents = read_manifest(path)
    with understanding(path):
        return _release(manifest, contents)


def _release(manifest: ReleaseManifest, contents: Contents) -> dict[str, Json]:
    source = manifest.lock.source
    engine = manifest.engine
    return {
        "kind": "release",
        "name": manifest.name,
        "form": contents.form,
        "checked": "the manifest and the names; `trtllm-pack verify` checks every byte",
        "size_bytes": sum(extent.size_bytes for extent in contents.files.values()),
        "licence": list(manifest.licence.files) or manifest.licence.status,
        "source": {
            "kind": source.kind,
            "repo": source.repo,
            "commit": source.commit,
            "num_files": len(source.files),
            "size_bytes": sum(file.size_bytes for file in source.files),
        },
        "engine": {
            "backend": engine.get("backend"),
            "dtype": engine.get("dtype"),
            "targets": engine.get("targets", []),
            **{key: engine[key] for key in ENGINE_LIMITS if key in engine},
            "built": dict(manifest.build),
            **({"graph": _graph(engine["graph"])} if engine.get("graph") else {}),
        },
        "attention": _proof(manifest.attention),
        "smoke": _smoke(manifest.smoke),
        "tools": dict(manifest.lock.tools),
        "stage keys": dict(manifest.stage_keys),
        "files": [
            {"name": name, "size_bytes": extent.size_bytes}
            for name, extent in sorted(contents.files.items())
        ],
    }


def _graph(record: Mapping[str, Json]) -> dict[str, Json]:
    """The record of an ONNX graph, less its ports: `inspect` of the graph itself has all of it."""
    keys = ("file", "producer", "opset", "ir_version", "attention_nodes", "external_data")
    return {key: record.get(key) for key in keys}


def _proof(proof: Mapping[str, Json]) -> dict[str, Json]:
    """The three answers, each with what it rests on."""
    answers = {key: proof.get(key) or {} for key in ("requested", "built", "observed")}
    built, observed = answers["built"], answers["observed"]
    return {
        "requested": answers["requested"],
        "built": built.get("status"),
        "built evidence": built.get("evidence"),
        "observed": observed.get("status"),
        "observed evidence": observed.get("evidence") or observed.get("reason"),
    }


def _smoke(record: Mapping[str, Json]) -> dict[str, Json]:
    return {
        "executed by": record.get("executed_by"),
        "generated": [
            {"prompt": entry.get("prompt"), "text": entry.get("text")}
            for entry in record.get("prompts", [])
        ],
    }
