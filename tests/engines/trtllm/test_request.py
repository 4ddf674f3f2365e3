"""A request's two forms: the command line, and the JSON that is recorded beside it."""

from __future__ import annotations

from pathlib import Path

from pipeline.engines.trtllm.request import build_request
from tests.engines.trtllm.building import checkpoint, settings


def test_the_json_of_a_request_says_what_its_command_line_says(tmp_path: Path) -> None:
    config = checkpoint(tmp_path / "checkpoint").config
    plain = build_request(settings(), config).build_config()
    assert "lora_config" not in plain
    assert "manage_weights" not in plain["plugin_config"]
    lora = {"lora_plugin": "auto", "lora_target_modules": ("attn_qkv",), "max_lora_rank": 8}
    asked = build_request(settings(fast_build=True, **lora), config).build_config()
    assert asked["lora_config"] == {
        "lora_ckpt_source": "hf",
        "max_lora_rank": 8,
        "lora_target_modules": ["attn_qkv"],
    }
    assert asked["plugin_config"]["lora_plugin"] == "bfloat16"
    assert asked["plugin_config"]["manage_weights"] is True
