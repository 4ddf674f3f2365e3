"""Families that are Llama under other names and layouts make the very rank files that Llama makes.

The same weights are given to the Llama family under Llama's names, by plain numpy. So what is shown
of Llama checkpoints (their logits, their engines) holds for these too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.graph.architectures.llama import ARCHITECTURES
from pipeline.weights.layout import ConversionPlan
from tests import tiny
from tests.families.digests import rank_digest
from tests.families.fixtures import FIXTURES
from tests.weights.converting import convert, load_all, plan

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

EXAONE = {
    r"transformer\.h": "model.layers",
    r"transformer\.wte": "model.embed_tokens",
    r"transformer\.ln_f": "model.norm",
    r"attn\.attention\.out_proj": "self_attn.o_proj",
    r"attn\.attention": "self_attn",
    "ln_1": "input_layernorm",
    "ln_2": "post_attention_layernorm",
    "c_fc_0": "gate_proj",
    "c_fc_1": "up_proj",
    "c_proj": "down_proj",
}
INTERNLM2 = {
    "tok_embeddings": "embed_tokens",
    "^output": "lm_head",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    r"attention\.wo": "self_attn.o_proj",
    r"feed_forward\.w1": "mlp.gate_proj",
    r"feed_forward\.w2": "mlp.down_proj",
    r"feed_forward\.w3": "mlp.up_proj",
}


def renamed(arrays: Arrays, names: dict[str, str]) -> Arrays:
    """Each name with its words replaced, one pattern after the other."""
    found = {}
    for name, array in arrays.items():
        for pattern, word in names.items():
            name = re.sub(pattern, word, name)
        found[name] = array
    return found


def from_internlm2(arrays: Arrays) -> Arrays:
    """`wqkv` holds, for each of 2 K/V heads of size 4, 3 query heads, then its key and value."""
    found = {}
    for name, array in renamed(arrays, INTERNLM2).items():
        if "wqkv" not in name:
            found[name] = array
            continue
        groups = array.reshape(2, 5, 4, 24)
        parts = {"q": groups[:, :3], "k": groups[:, 3:4], "v": groups[:, 4:]}
        for kind, part in parts.items():
            proj = name.replace("attention.wqkv", f"self_attn.{kind}_proj")
            found[proj] = np.ascontiguousarray(part.reshape(-1, 24))
    return found


def without_buffers(arrays: Arrays) -> Arrays:
    return {name: array for name, array in arrays.items() if "inv_freq" not in name}


SAME: dict[str, Callable[[Arrays], Arrays]] = {
    "exaone": lambda arrays: renamed(arrays, EXAONE),
    "exaone-3.5-tied": lambda arrays: renamed(arrays, EXAONE),
    "internlm": without_buffers,
    "internlm2": from_internlm2,
    "skywork": without_buffers,
}


def as_llama(name: str, made: ConversionPlan, folder: Path) -> Path:
    """The same model as a Llama checkpoint; its config is written from what ours became."""
    became = made.config
    # `alpha` is TensorRT-LLM's own: no source has it.
    scaling = {k: v for k, v in (became["rotary_scaling"] or {}).items() if k != "alpha"} or None
    config = {
        **tiny.CONFIG,
        **{key: became[key] for key in tiny.CONFIG if key in became},
        "head_dim": became["head_size"],
        "rms_norm_eps": became["norm_epsilon"],
        "rope_theta": became["rotary_base"],
        "rope_scaling": scaling,
        "attention_bias": became["attn_bias"],
        "torch_dtype": became["dtype"],
    }
    return tiny.write_checkpoint(folder, config, SAME[name](load_all(FIXTURES / name)))


@pytest.mark.parametrize(("tp_size", "pp_size"), [(1, 1), (2, 2)])
@pytest.mark.parametrize("name", SAME)
def test_rank_files_and_config(name: str, tp_size: int, pp_size: int, tmp_path: Path) -> None:
    made = plan(FIXTURES / name, tp_size, pp_size)
    llama = as_llama(name, made, tmp_path / "llama")
    outs = [
        convert(made, FIXTURES / name, tmp_path / "own"),
        convert(plan(llama, tp_size, pp_size), llama, tmp_path / "as-llama"),
    ]
    configs = [json.loads((out / "config.json").read_text()) for out in outs]
    assert configs[0].pop("architecture") in ARCHITECTURES
    assert configs[1].pop("architecture") == "LlamaForCausalLM"
    assert configs[0] == configs[1]
    for rank in range(tp_size * pp_size):
        files = [out / f"rank{rank}.safetensors" for out in outs]
        assert rank_digest(files[0]) == rank_digest(files[1])
