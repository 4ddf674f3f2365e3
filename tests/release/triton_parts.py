"""Engines as TensorRT-LLM 1.2 describes them, releases with a Triton model repository, and
Triton's own schema of its configurations."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline import __version__
from pipeline.progress import Silent
from pipeline.release.digests import list_extents
from pipeline.release.folder import write_folder
from pipeline.release.tar import write_tar
from pipeline.store import Store
from tests.release.made import BUILD, made_before, publish


def engine_config(world_size: int = 1, **changes: Any) -> dict[str, Any]:
    """An engine's config.json with the keys that serving reads, `changes` by their names.

    Source: TensorRT-LLM 1.2, `builder.py`, `EngineConfig.to_dict`.
    """
    config: dict[str, Any] = {
        "version": "1.2.1",
        "pretrained_config": {
            "architecture": "LlamaForCausalLM",
            "dtype": "bfloat16",
            "logits_dtype": "float32",
            "vocab_size": 120,
            "mapping": {"world_size": world_size, "tp_size": world_size, "pp_size": 1},
        },
        "build_config": {
            "max_batch_size": 5,
            "max_beam_width": 1,
            "max_input_len": 96,
            "max_seq_len": 160,
            "max_num_tokens": 128,
            "kv_cache_type": "paged",
            "max_prompt_embedding_table_size": 0,
            "speculative_decoding_mode": 1,
            "lora_config": {"max_lora_rank": 24, "lora_target_modules": []},
            "plugin_config": {
                "gpt_attention_plugin": "bfloat16",
                "context_fmha": True,
                "remove_input_padding": True,
                "use_paged_context_fmha": True,
                "lora_plugin": None,
            },
        },
    }
    sections = [config, config["pretrained_config"], config["build_config"]]
    sections += [config["build_config"]["plugin_config"], config["build_config"]["lora_config"]]
    for key, value in changes.items():
        (section,) = [each for each in sections if key in each]
        section[key] = value
    return config


def engine_files(config: dict[str, Any], rank_bytes: int = 3000) -> dict[str, str]:
    """What the build stage publishes for such an engine."""
    world_size = config["pretrained_config"]["mapping"]["world_size"]
    record = {"backend": "trtllm", "dtype": "bfloat16", "targets": ["sm90"]}
    ranks = {f"rank{rank}.engine": f"engine {rank} " * rank_bytes for rank in range(world_size)}
    return {
        "attention.json": BUILD["attention.json"],
        "config.json": json.dumps(config),
        "engine.json": json.dumps(record),
        **ranks,
    }


def triton_release(folder: Path, config: dict[str, Any] | None = None, **serving: Any) -> Path:
    """A release folder `folder/tiny` with `triton/` in it, and `folder/tiny.tar`."""
    store = Store(folder / "store")
    inputs = made_before(store)
    files = engine_files(config or engine_config())
    inputs["build"] = publish(store, "build", files, {"backend": "trtllm"})
    recipe = {
        "name": "tiny",
        "engine": {"backend": "trtllm", "targets": ["sm90"]},
        "package": {"kind": "engine", "formats": ["tar", "triton"], "serving": serving},
    }
    tools = {"tensorrt-llm": "1.2.1", "trtllm-pack": __version__}
    root = folder / "tiny"
    write_folder(root, inputs, name="tiny", recipe=recipe, tools=tools, progress=Silent())
    write_tar(folder / "tiny.tar", "tiny", list_extents(root), Silent())
    return root


@cache
def triton_schema() -> ModuleType:
    """Triton's generated `model_config_pb2`; its package is not imported, which would need gRPC."""
    found = importlib.util.find_spec("tritonclient")
    assert found is not None
    assert found.submodule_search_locations is not None
    path = Path(found.submodule_search_locations[0]) / "grpc/model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("triton_model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_by_schema(data: bytes) -> Any:
    """A `config.pbtxt` as Triton reads it: an unknown field or a wrong type raises ParseError."""
    from google.protobuf import text_format

    return text_format.Parse(data.decode(), triton_schema().ModelConfig())
