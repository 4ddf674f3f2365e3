"""Artifacts of all stages before `package`, small and made by hand, and a release of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifact import Artifact, describe
from pipeline.hardware import Gpu, Hardware
from pipeline.progress import Silent
from pipeline.release.digests import list_extents
from pipeline.release.folder import write_folder
from pipeline.release.tar import write_tar
from pipeline.store import Store

NO_GPU = Hardware(num_cpus=2, available_memory_bytes=1 << 30, gpus=())
L4 = Hardware(2, 1 << 30, (Gpu("NVIDIA L4", "sm89", 24 << 30, "580.1"),))

SOURCE = {
    "LICENSE": "Do what you like.\n",
    "additional_chat_templates/tools.jinja": "{{ tools }}",
    "chat_template.jinja": "{{ messages }}",
    "config.json": '{"architectures": ["LlamaForCausalLM"]}',
    "generation_config.json": "{}",
    "model-00001-of-00001.safetensors": "weights",
    "model.safetensors.index.json": "{}",
    "tokenizer.json": '{"version": "1.0"}',
    "tokenizer_config.json": "{}",
}
ATTENTION = {
    "requested": {"context_fmha": True, "require_fused": True},
    "built": {"status": "fused", "attention_sites": 2, "evidence": "one kernel a layer"},
    "observed": {"status": "not observed", "reason": "no GPU"},
}
BUILD = {
    "engine.json": json.dumps({"backend": "onnxruntime", "dtype": "bfloat16", "targets": ["cpu"]}),
    "attention.json": json.dumps(ATTENTION),
    "decoder.onnx": "graph" * 100,
    "rank0.safetensors": "rank" * 300,
}
SMOKE = {
    "executed_by": {"backend": "onnxruntime", "version": "1.32.0", "device": "cpu"},
    "prompts": [
        {"prompt": "Full fathom", "text": " five\n# lies\x1b[2J", "expectations": [{"a": 1}]}
    ],
}


def source_files(source: Mapping[str, str]) -> list[dict[str, Any]]:
    """Names, sizes and SHA-256 as the download stage tells them."""
    return [
        {
            "name": name,
            "size_bytes": len(text.encode()),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
        for name, text in sorted(source.items())
    ]


def publish(
    store: Store, stage: str, files: Mapping[str, str], facts: Mapping[str, Any] | None = None
) -> Artifact:
    """An artifact of these files; its key follows from them."""
    key = hashlib.sha256(repr((stage, sorted(files.items()))).encode()).hexdigest()
    with store.session() as session, session.working_folder(stage, key) as folder:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        return session.publish(folder, describe(folder, stage, key, {}, facts or {}))


def made_before(
    store: Store,
    source: Mapping[str, str] = SOURCE,
    repo: str | None = None,
    commit: str | None = None,
) -> dict[str, Artifact]:
    """The artifacts of all stages before `package`."""
    facts = {"kind": "hub" if repo else "local", "repo": repo, "commit": commit}
    download = facts | {"files": source_files(source)}
    convert = {"ledger.json": '{"tensors": {}}', "config.json": "{}"}
    return {
        "download": publish(store, "download", source, download),
        "convert": publish(store, "convert", convert),
        "verify": publish(store, "verify", {"parity.json": '{"round_trip": "equal"}'}),
        "build": publish(store, "build", BUILD, {"backend": "onnxruntime"}),
        "smoke": publish(store, "smoke", {"smoke.json": json.dumps(SMOKE)}),
    }


def release_in(folder: Path, *, source: Mapping[str, str] = SOURCE, **changes: Any) -> Path:
    """A release folder `folder/tiny` with `folder/tiny.tar` beside it."""
    inputs = made_before(Store(folder / "store"), source)
    parts: dict[str, Any] = {
        "recipe": {"name": "tiny", "engine": {"backend": "onnxruntime", "targets": ["sm89"]}},
        "tools": {"onnx": "1.23.2"},
    }
    write_folder(folder / "tiny", inputs, name="tiny", progress=Silent(), **(parts | changes))
    write_tar(folder / "tiny.tar", "tiny", list_extents(folder / "tiny"), Silent())
    return folder / "tiny"
