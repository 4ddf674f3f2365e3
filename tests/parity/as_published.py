"""Makes what transformers 5 saves look like the checkpoints on the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Tensors = dict[str, Any]

# Published without the name of the inner model before every tensor.
BARE = ("gpt2-bare", "bloom-bare")
# Published configs of these name the kind of a rope scaling `type`; the others say `rope_type`.
ROPE_BY_TYPE = ("deepseek_v2", "phi3", "phimoe")
# Keys that no config before transformers 5 has.
NEW_KEYS = {
    "qwen2": ("layer_types",),
    "qwen2_moe": ("layer_types", "qkv_bias"),
    "qwen3": ("layer_types",),
    "gemma2": ("layer_types", "use_bidirectional_attention"),
    "gemma3_text": ("layer_types", "use_bidirectional_attention", "_sliding_window_pattern"),
    "deepseek_v2": ("head_dim", "qk_head_dim", "mlp_bias", "output_router_logits"),
    "gpt_bigcode": ("num_key_value_heads", "add_cross_attention"),
    "gpt_neox": ("is_decoder",),
    "dbrx": ("num_key_value_heads",),
}
# What transformers 5 writes into every config inside a config.
INNER_NOISE = (
    "_name_or_path",
    "architectures",
    "chunk_size_feed_forward",
    "dtype",
    "id2label",
    "is_encoder_decoder",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
)


def publish(folder: Path, architecture: str | None) -> None:
    """Give a saved folder the published architecture and tensor names, and the old buffers."""
    if architecture is not None:
        config = read_json(folder / "config.json")
        write_json(folder / "config.json", config | {"architectures": [architecture]})
    if folder.name in BARE:
        change_tensors(folder, without_prefix)
    if folder.name == "gpt2-bare":
        change_tensors(folder, with_gpt2_mask)
    if folder.name == "gptneox":
        change_tensors(folder, with_neox_buffers)


def change_tensors(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    """Rewrite every weight file of a folder, and its index."""
    from safetensors.torch import load_file, save_file

    index = read_json(folder / "model.safetensors.index.json")
    index["weight_map"], total = {}, 0
    for path in sorted(folder.glob("*.safetensors")):
        tensors = change(load_file(path))
        save_file(tensors, path, {"format": "pt"})
        index["weight_map"] |= dict.fromkeys(tensors, path.name)
        total += sum(tensor.nbytes for tensor in tensors.values())
    index["metadata"] = {"total_size": total}
    write_json(folder / "model.safetensors.index.json", index)


def without_prefix(tensors: Tensors) -> Tensors:
    """As in the checkpoints of OpenAI and BigScience: `h.0...`, not `transformer.h.0...`."""
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


def with_gpt2_mask(tensors: Tensors) -> Tensors:
    """The causal mask that GPT-2's first checkpoints hold for each layer."""
    import torch

    mask = torch.tril(torch.ones(1, 1, 32, 32))
    layers = [name for name in tensors if name.endswith("attn.c_attn.weight")]
    return tensors | {name.replace("c_attn.weight", "bias"): mask.clone() for name in layers}


def with_neox_buffers(tensors: Tensors) -> Tensors:
    """Mask, masked value and rope frequencies, which the Pythia checkpoints hold."""
    import torch

    made = dict(tensors)
    for name in tensors:
        if not name.endswith("attention.dense.weight"):
            continue
        inner = name.removesuffix("dense.weight")
        made[f"{inner}bias"] = torch.tril(torch.ones(1, 1, 32, 32, dtype=torch.bool))
        made[f"{inner}masked_bias"] = torch.tensor(-1e4, dtype=torch.float16)
        made[f"{inner}rotary_emb.inv_freq"] = torch.tensor([1.0, 0.01], dtype=torch.float16)
    return made


def spell_as_4(folder: Path) -> None:
    """Write `config-v4.json`: the config with `rope_theta`, `rope_scaling`, `torch_dtype`."""
    config = read_json(folder / "config.json")
    for key in NEW_KEYS.get(config["model_type"], ()):
        config.pop(key, None)
    config |= older_rope(config["model_type"], config.pop("rope_parameters", None))
    config["torch_dtype"] = config.pop("dtype")
    if config["model_type"] == "qwen3_moe":
        config["num_experts"] = config.pop("num_local_experts")
    config["transformers_version"] = "4.57.3"
    for name in ("attn_config", "ffn_config"):
        if name in config:
            inner = config[name].items()
            config[name] = {key: value for key, value in inner if key not in INNER_NOISE}
    write_json(folder / "config-v4.json", config)


def older_rope(model_type: str, rope: dict[str, Any] | None) -> dict[str, Any]:
    """The keys that held what `rope_parameters` holds since transformers 5."""
    if rope is None or model_type == "dbrx":  # Dbrx has its base inside `attn_config`
        return {}
    if "full_attention" in rope:
        base = rope["sliding_attention"]["rope_theta"]
        return {"rope_local_base_freq": base} | older_rope(model_type, rope["full_attention"])
    scaling = dict(rope)
    base, part = scaling.pop("rope_theta"), scaling.pop("partial_rotary_factor", None)
    if model_type == "gpt_neox":
        return {"rotary_emb_base": base, "rotary_pct": part}
    older: dict[str, Any] = {"rope_theta": base, "rope_scaling": None}
    if part not in (None, 1.0):
        older["partial_rotary_factor"] = part
    if scaling["rope_type"] != "default":
        if model_type in ROPE_BY_TYPE:
            scaling = {"type": scaling.pop("rope_type")} | scaling
        older["rope_scaling"] = scaling
    return older


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object as transformers writes its configs."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
