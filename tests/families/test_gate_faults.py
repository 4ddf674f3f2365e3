"""The gate of `test_fixture_logits.py` sees faults: each here makes another, plausible model.

Checkpoints of the right shapes and names, with one thing wrong in `config.json` or in the weights,
as a wrong rule or a part of the graph that forgets something would make them. The error is at
least ten times what the gate lets pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pipeline.checkpoint.trtllm import TrtllmCheckpoint, open_trtllm_checkpoint
from pipeline.families import Family, find_family
from pipeline.weights.rules import Make
from tests.families.executing import converted, session
from tests.families.references import reference, relative_error
from tests.families.weight_faults import WEIGHT_FAULTS, Change

SEEN = 1e-3

CONFIG_FAULTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("rotary base", "llama", {"rotary_base": 500000.0}),
    ("rotary base of windows", "gemma3", {"rope_local_base_freq": 1000000.0}),
    ("rotary base of the others", "gemma3", {"rotary_base": 10000.0}),
    ("no rotary ratio", "chatglm3-32k", {"rotary_base": 10000.0}),
    ("no linear scaling", "llama-linear", {"rotary_scaling": None}),
    ("no llama3 scaling", "llama3-rope", {"rotary_scaling": None}),
    ("no yarn scaling", "llama-yarn", {"rotary_scaling": None}),
    ("no yarn scaling, latent", "deepseek-v2", {"rotary_scaling": None}),
    ("no short factors", "phi3-longrope", {"longrope_scaling_short_factors": [1.0, 1.0]}),
    ("rotated in whole", "phi", {"rotary_pct": 1.0, "rotary_embedding_dim": 8}),
    ("no window", "mistral-window", {"attention_windows": [None] * 3}),
    ("window less one", "mistral-window", {"attention_windows": [31] * 3}),
    ("windows in the wrong layers", "gemma2", {"attention_windows": [None, 32, None]}),
    ("windows in other layers", "gemma3", {"_sliding_window_pattern": 2}),
    ("window of the patterned", "gemma3", {"sliding_window": 33}),
    ("no window of starcoder2", "starcoder2", {"attention_windows": [None] * 3}),
    ("no embedding multiplier", "granite", {"embedding_multiplier": 1.0}),
    ("no attention multiplier", "granite", {"attention_multiplier": 1.0}),
    ("no residual multiplier", "granite", {"residual_multiplier": 1.0}),
    ("no logits multiplier", "granite", {"output_multiplier_scale": 1.0}),
    ("no logits multiplier", "cohere", {"output_multiplier_scale": 1.0}),
    ("no attention cap", "gemma2", {"attn_logit_softcapping": None}),
    ("no logits cap", "gemma2", {"final_logit_softcapping": None}),
    ("query scale", "gemma2", {"query_pre_attn_scalar": 8}),
    ("not renormalised", "qwen3moe", {"moe.normalization_mode": 0}),
    ("not renormalised", "mixtral", {"moe.normalization_mode": 0}),
    ("renormalised", "qwen2moe", {"moe.normalization_mode": 1}),
    ("one expert less", "mixtral", {"moe.top_k": 1}),
    ("no groups", "deepseek-v2", {"moe.device_limited_n_group": 1}),
    ("routing not scaled", "deepseek-v2", {"moe.device_limited_routed_scaling_factor": 1.0}),
    ("softmax, no mixer", "phimoe", {"moe.normalization_mode": 1}),
    ("not clipped", "dbrx", {"clip_qkv": None}),
    ("no embedding scale", "jais", {"embedding_scale": 1.0}),
    ("by the root of the width", "jais", {"q_scaling": 1.0}),
    ("no width multiplier", "phi3small", {"mup_width_multiplier": 1.0}),
    ("other limit", "phi3small", {"gegelu_limit": 1.0}),
    ("by the root of the width", "phi3small", {"mup_use_scaling": False}),
    ("activation", "llama", {"hidden_act": "gelu"}),
    ("epsilon", "llama", {"norm_epsilon": 1e-2}),
)


def error(checkpoint: TrtllmCheckpoint, name: str) -> float:
    """Largest of all prompts' last tokens, relative to the largest logit."""
    expected = reference(name)
    found = session(checkpoint, expected.positions).start(expected.prompts)
    return relative_error(found, expected.last_logits)


def changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A config with some keys exchanged; `moe.top_k` stands for a key of the object `moe`."""
    made = dict(config)
    for key, value in changes.items():
        outer, _, inner = key.partition(".")
        assert outer in made, f"`{outer}` is not in the config: the fault would be none"
        made[outer] = made[outer] | {inner: value} if inner else value
    return made


@pytest.mark.parametrize(
    ("name", "changes"),
    [pytest.param(name, changes, id=f"{name}, {words}") for words, name, changes in CONFIG_FAULTS],
)
def test_a_fault_in_the_config(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = converted(name, tmp_path)
    wrong = dataclasses.replace(checkpoint, config=changed(checkpoint.config, changes))
    assert error(wrong, name) > SEEN


@pytest.mark.parametrize(("name", "change"), WEIGHT_FAULTS)
def test_a_fault_in_the_weights(name: str, change: Change, tmp_path: Path) -> None:
    path = converted(name, tmp_path).path
    tensors = load_file(path / "rank0.safetensors")
    before = {key: value.copy() for key, value in tensors.items()}
    change(tensors)
    tensors = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    assert any(not np.array_equal(before[key], value) for key, value in tensors.items())
    save_file(tensors, path / "rank0.safetensors")
    assert error(open_trtllm_checkpoint(path), name) > SEEN


def test_a_fault_in_the_rules(tmp_path: Path) -> None:
    """Gate and up exchanged: a checkpoint of the right shapes, and a wrong model."""
    assert error(converted("llama", tmp_path, family=with_wrong_gate()), "llama") > SEEN


def with_wrong_gate() -> Family:
    family = find_family("LlamaForCausalLM")
    other = {"gate_proj": "up_proj", "up_proj": "gate_proj"}
    rules = []
    for rule in family.weight_map:
        word = rule.sources[0].source.split(".")[-2] if isinstance(rule, Make) else ""
        if isinstance(rule, Make) and word in other:
            (part,) = rule.sources
            part = dataclasses.replace(part, source=part.source.replace(word, other[word]))
            rules.append(dataclasses.replace(rule, parts=(part,)))
        else:
            rules.append(rule)
    return dataclasses.replace(family, weight_map=tuple(rules))
