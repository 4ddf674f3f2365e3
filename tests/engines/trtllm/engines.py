"""Small engines as the stand-in `trtllm-build` writes them, with no build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.standins.trtllm_build import ENGINE_MAGIC
from tests.tiny_decoder import Shape, random_weights, write_checkpoint

LIMITS = {"max_batch_size": 2, "max_input_len": 24, "max_seq_len": 40}


def write_engine(folder: Path, shape: Shape, *, tp_size: int = 1, **build: Any) -> Path:
    """An engine folder of a random model; its checkpoint lies in `folder.parent / "checkpoint"`."""
    checkpoint = folder.parent / "checkpoint"
    if not checkpoint.exists():
        write_checkpoint(checkpoint, shape, random_weights(shape), tp_size=tp_size)
    folder.mkdir(parents=True)
    config = json.loads((checkpoint / "config.json").read_bytes())
    document = {
        "version": "1.2.1",
        "pretrained_config": config,
        "build_config": {
            **LIMITS,
            "max_num_tokens": 64,
            "max_beam_width": 1,
            "gather_context_logits": False,
            "plugin_config": {"context_fmha": True, "gpt_attention_plugin": "bfloat16"},
            **build,
        },
    }
    (folder / "config.json").write_text(json.dumps(document))
    for path in checkpoint.glob("rank*.safetensors"):
        (folder / f"{path.stem}.engine").write_bytes(ENGINE_MAGIC + path.read_bytes())
    return folder
