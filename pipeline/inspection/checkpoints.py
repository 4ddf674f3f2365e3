"""What checkpoints and their weight files hold, from headers and configs alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path

from pipeline.artifact import Json
from pipeline.checkpoint.huggingface import open_source_checkpoint
from pipeline.checkpoint.safetensors_file import TensorInfo, read_header
from pipeline.checkpoint.strict_json import CONFIG_LIMITS, printable
from pipeline.checkpoint.trtllm import CONFIG_NAME, open_trtllm_checkpoint, rank_file
from pipeline.errors import PipelineError, VerificationError
from pipeline.families import find_family
from pipeline.files.regular import read_small
from pipeline.sources.selection import LICENCE_NAME, remote_code_references

SHAPE_KEYS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "head_size",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "tie_word_embeddings",
)
"""Of a config: the sizes of the model, by the names of Hugging Face and of TensorRT-LLM."""


def inspect_source_checkpoint(folder: Path) -> dict[str, Json]:
    """A Hugging Face checkpoint. Raises VerificationError where it contradicts itself."""
    checkpoint = open_source_checkpoint(folder)
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    document: dict[str, Json] = {
        "kind": "source checkpoint",
        "architecture": checkpoint.architecture,
        **_family(checkpoint.architecture),
        "model": _shape(checkpoint.config),
        "weights": _totals(checkpoint.tensors.values()),
        "dtypes": _dtypes(checkpoint.tensors.values()),
        "weight files": [
            _file_row(folder, name, [t for t in checkpoint.tensors.values() if t.file == name])
            for name in checkpoint.weight_files
        ],
        "tokenizer files": [name for name in names if _is_tokenizer(name)],
        "licence files": [name for name in names if LICENCE_NAME.fullmatch(name)],
    }
    texts: dict[str, bytes] = {
        name: read_small(folder / name, CONFIG_LIMITS.max_bytes, name)
        for name in ("config.json", "tokenizer_config.json")
        if name in names
    }
    code = remote_code_references(texts)
    return document | ({"Python code, which is never executed": code} if code else {})


def inspect_trtllm_checkpoint(folder: Path) -> dict[str, Json]:
    """A TensorRT-LLM checkpoint. Raises VerificationError where it contradicts itself."""
    checkpoint = open_trtllm_checkpoint(folder)
    config = checkpoint.config
    tensors = [tensor for rank in checkpoint.ranks for tensor in rank.values()]
    return {
        "kind": "TensorRT-LLM checkpoint",
        "architecture": config["architecture"],
        "dtype": config["dtype"],
        "quantization": _quantization(config),
        **_layout(config),
        "model": _shape(config),
        "weights": _totals(tensors),
        "dtypes": _dtypes(tensors),
        "ranks": [
            _file_row(folder, rank_file(number), list(rank.values()))
            for number, rank in enumerate(checkpoint.ranks)
        ],
    }


def inspect_weight_file(path: Path) -> dict[str, Json]:
    """Every tensor of one safetensors file. Raises VerificationError where it is malformed."""
    tensors = read_header(path)
    return {
        "kind": "weight file",
        "size_bytes": path.stat().st_size,
        "weights": _totals(tensors.values()),
        "dtypes": _dtypes(tensors.values()),
        "tensors": [
            {
                "name": tensor.name,
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                "size_bytes": tensor.num_bytes,
            }
            for tensor in tensors.values()
        ],
    }


def _family(architecture: str) -> dict[str, Json]:
    """The family that converts it, or why none does."""
    try:
        return {"family": find_family(architecture).name}
    except PipelineError as error:
        return {"family": None, "why": error.message}


def _quantization(config: Mapping[str, Json]) -> Json:
    """The algorithm. Raises VerificationError where that is not how a config says it."""
    section = config.get("quantization") or {}
    if not isinstance(section, dict):
        raise VerificationError(
            f"`quantization` of `{CONFIG_NAME}` is `{printable(str(section))}`, expected an object",
            hint="fetch or convert the checkpoint again",
        )
    return section.get("quant_algo") or "none"


def _layout(config: Mapping[str, Json]) -> dict[str, Json]:
    """How the model is split over the ranks, as config.json says it."""
    mapping = config["mapping"]
    sizes = ("tp_size", "pp_size", "cp_size", "moe_tp_size", "moe_ep_size")
    dim = config.get("embedding_sharding_dim", 0)
    shared = config.get("use_parallel_embedding", False)
    return {
        **{name: mapping.get(name, 1) for name in sizes if name in mapping or name in sizes[:2]},
        "parallel embedding": f"on dim {dim}" if shared else "no",
    }


def _shape(config: Mapping[str, Json]) -> dict[str, Json]:
    return {key: config[key] for key in SHAPE_KEYS if config.get(key) is not None}


def _totals(tensors: Iterable[TensorInfo]) -> dict[str, Json]:
    tensors = list(tensors)
    return {
        "num_tensors": len(tensors),
        "num_parameters": sum(prod(tensor.shape) for tensor in tensors),
        "size_bytes": sum(tensor.num_bytes for tensor in tensors),
    }


def _dtypes(tensors: Iterable[TensorInfo]) -> list[Json]:
    tensors = list(tensors)
    return [
        {"dtype": dtype, **_totals(tensor for tensor in tensors if tensor.dtype == dtype)}
        for dtype in sorted({tensor.dtype for tensor in tensors})
    ]


def _file_row(folder: Path, name: str, tensors: list[TensorInfo]) -> dict[str, Json]:
    return {
        "name": name,
        "num_tensors": len(tensors),
        "size_bytes": (folder / name).stat().st_size,
    }


def _is_tokenizer(name: str) -> bool:
    return name.startswith(("tokenizer", "chat_template", "special_tokens", "vocab", "merges"))
