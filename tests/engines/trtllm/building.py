"""Builds with the stand-in for `trtllm-build`, in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.checkpoint.trtllm import TrtllmCheckpoint, open_trtllm_checkpoint
from pipeline.engines.trtllm.engine import ENGINE
from pipeline.model_classes.llama import LLAMA
from pipeline.progress import Silent
from pipeline.recipe.schema import Attention, EngineSettings
from tests.tiny_decoder import Shape, random_weights, write_checkpoint


def settings(
    *targets: str, require: bool = True, fused: bool = True, **keys: Any
) -> EngineSettings:
    """Small limits for sm90."""
    small = {"max_batch_size": 2, "max_input_len": 24, "max_seq_len": 48, "build_timeout_s": 60}
    attention = Attention(context_fmha=fused, require_fused=require and fused)
    return EngineSettings(targets=targets or ("sm90",), attention=attention, **{**small, **keys})


def checkpoint(folder: Path, tp_size: int = 1, pp_size: int = 1, **keys: Any) -> TrtllmCheckpoint:
    """A tiny random one, of three layers; its config.json as a conversion writes it."""
    shape = Shape(dtype="bfloat16", head_size=32)
    mapping = {
        "world_size": tp_size * pp_size,
        "gpus_per_node": 8,
        "cp_size": 1,
        "tp_size": tp_size,
        "pp_size": pp_size,
        "moe_tp_size": tp_size,
        "moe_ep_size": 1,
    }
    keys = {**LLAMA.defaults(), "rotary_embedding_dim": 32, "mapping": mapping, **keys}
    write_checkpoint(folder, shape, random_weights(shape), tp_size, pp_size, **keys)
    return open_trtllm_checkpoint(folder)


def build(
    source: TrtllmCheckpoint,
    out_dir: Path,
    chosen: EngineSettings | None = None,
    cache_dir: Path | None = None,
) -> dict[str, Any]:
    """A build by the backend; its facts."""
    out_dir.mkdir(parents=True)
    return ENGINE.build(source, chosen or settings(), out_dir, Silent(), cache_dir=cache_dir)
