"""Remote-code architectures near to GPTBigCode, Falcon and MPT.

Sources of the published code, by model on the Hugging Face Hub: bigcode/santacoder
(`modeling_gpt2_mq.py`), tiiuae/falcon-7b and falcon-40b as first published (`modelling_RW.py`),
replit/replit-code-v1_5-3b (`attention.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.parity.as_published import read_json
from tests.parity.exchanged import build, plain, read_tensors, repeated
from tests.parity.references import Original


def santacoder(folder: Path) -> Original:
    """SantaCoder: queries apart from the one key and value head; Conv1D, outputs last."""
    import torch

    config = read_json(folder / "config.json")
    made: dict[str, Any] = {}
    tensors = read_tensors(folder)
    for name, tensor in tensors.items():
        if ".q_attn." in name:
            both = torch.cat([tensor, tensors[name.replace("q_attn", "kv_attn")]], dim=-1)
            made[name.replace("q_attn", "c_attn")] = both.T if both.ndim == 2 else both
        elif ".kv_attn." not in name:
            inside = tensor.ndim == 2 and ".h." in name
            made[name] = tensor.T if inside else tensor
    keys = ("vocab_size", "n_embd", "n_head", "n_layer", "n_positions", "n_inner")
    settings = {key: config[key] for key in (*keys, "activation_function", "layer_norm_epsilon")}
    model = build("GPTBigCode", settings | {"multi_query": True}, made)
    words = "transformers GPTBigCodeForCausalLM, q_attn and kv_attn joined, transposed"
    return Original(plain(model), words)


def falcon_refinedweb(folder: Path) -> Original:
    """Falcon as first published: one key head, or (`n_head_kv`) some and two norms."""
    config = read_json(folder / "config.json")
    grouped = "n_head_kv" in config
    settings = {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "num_attention_heads": config["n_head"],
        "num_hidden_layers": config["n_layer"],
        "layer_norm_epsilon": config["layer_norm_epsilon"],
        "alibi": config["alibi"],
        "bias": config["bias"],
        "parallel_attn": config["parallel_attn"],
        "new_decoder_architecture": grouped,
        "multi_query": config.get("multi_query", True),
        "num_kv_heads": config.get("n_head_kv"),
    }
    model = build("Falcon", settings, read_tensors(folder))
    return Original(plain(model), "transformers FalconForCausalLM, config renamed")


def mpt_grouped(folder: Path) -> Original:
    """MPT with fewer key heads: queries, keys and values one after another in `Wqkv`."""
    import torch

    config = read_json(folder / "config.json")
    heads, hidden = config["n_heads"], config["d_model"]
    width, groups = hidden // heads, config["attn_config"]["kv_n_heads"]
    made: dict[str, Any] = {}
    for name, tensor in read_tensors(folder).items():
        made[name] = tensor
        if "Wqkv" in name:
            query, key, value = tensor.split([hidden, groups * width, groups * width])
            wide = [repeated(each, heads, width) for each in (key, value)]
            made[name] = torch.cat([query, *wide])
    names = ("d_model", "n_heads", "n_layers", "max_seq_len", "expansion_ratio", "vocab_size")
    inner = {key: config["attn_config"][key] for key in ("alibi", "alibi_bias_max", "clip_qkv")}
    settings = {key: config[key] for key in names} | {"attn_config": inner}
    words = "transformers MptForCausalLM, key and value heads repeated"
    return Original(plain(build("Mpt", settings, made)), words)
