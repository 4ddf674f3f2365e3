"""BuildConfig and PluginConfig as the command line makes them, generated from the JSON of facts.

Source: TensorRT-LLM 1.x `commands/build.py`, `builder.py`, `plugin/plugin.py`, `lora_helper.py`.
"""

from __future__ import annotations

import argparse

from pipeline.artifact import Json
from pipeline.trtllm.facts import facts
from tests.standins.changes import Say

MODES = {None: 1, "draft_tokens_external": 2, "medusa": 4, "lookahead_decoding": 8}
MODES |= {"explicit_draft_tokens": 16, "eagle": 32}
"""`SpeculativeDecodingMode`, an IntFlag: config.json has the number."""


def plugin_config(arguments: argparse.Namespace, say: Say) -> dict[str, Json]:
    """All fields of PluginConfig; those with a flag as the command line has them."""
    spelt = {"enable": True, "disable": False}
    found: dict[str, Json] = {}
    for name, fact in facts()["plugin_config"].items():
        found[name] = fact["default"]
        if fact["cli_flag"] in facts()["trtllm_build_flag_details"]["plugin_flags"]:
            value = getattr(arguments, name)
            is_bool = isinstance(fact["values"], list) and True in fact["values"]
            found[name] = spelt[value] if is_bool else None if value == "disable" else value
            say("I", f"Set PluginConfig.{name} to {found[name]}.")
    if arguments.fast_build:
        found["manage_weights"] = True
    return found


def build_config(arguments: argparse.Namespace) -> dict[str, Json]:
    """All fields of BuildConfig that are serialised, but for plugin_config."""
    found: dict[str, Json] = {}
    for name, fact in facts()["build_config"].items():
        if name in {"plugin_config", "dry_run", "visualize_network"}:
            continue
        flag = (fact["cli_flag"] or "--").removeprefix("--")
        found[name] = getattr(arguments, flag, fact["default"]) if flag else fact["default"]
    found["kv_cache_type"] = found["kv_cache_type"] or "paged"
    found["speculative_decoding_mode"] = MODES[arguments.speculative_decoding_mode]
    found["lora_config"] = {
        "lora_dir": arguments.lora_dir or [],
        "lora_ckpt_source": "hf",
        "max_lora_rank": 64,
        "lora_target_modules": [],
        "trtllm_modules_to_hf_modules": {},
        "max_loras": None,
        "max_cpu_loras": None,
        "swap_gate_up_proj_lora_b_weight": True,
    }
    if arguments.lora_plugin != "disable":
        for name in ("lora_ckpt_source", "max_lora_rank"):
            found["lora_config"][name] = getattr(arguments, name)
        found["lora_config"]["lora_target_modules"] = arguments.lora_target_modules or []
    return found
