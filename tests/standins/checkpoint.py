"""Loading a checkpoint as TensorRT-LLM 1.2 does, and refusing what it would only warn of.

Unknown keys of config.json and tensors that no parameter takes are warnings there, errors here.
Source: TensorRT-LLM 1.x `models/modeling_utils.py`, `mapping.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.artifact import Json
from pipeline.checkpoint.safetensors_file import read_header
from pipeline.families import find_family
from pipeline.trtllm.facts import facts
from pipeline.weights.attention_windows import ATTENTION_WINDOWS
from pipeline.weights.inventory import expected_inventory

NAMED = {
    *("architecture", "dtype", "mapping", "quantization"),
    *("use_parallel_embedding", "embedding_sharding_dim"),
}
"""Keys of every config.json beside those of its class."""

MAPPING = {
    "world_size": 1,
    "gpus_per_node": 8,
    "cp_size": 1,
    "tp_size": 1,
    "pp_size": 1,
    "moe_tp_size": -1,
    "moe_cluster_size": 1,
    "moe_ep_size": -1,
    "attn_tp_size": -1,
    "attn_cp_size": -1,
    "cp_config": None,
    "enable_attention_dp": False,
    "enable_lm_head_tp_in_adp": False,
}
"""Arguments of `Mapping`, and what `Mapping.to_dict` says of them where none is given."""

QUANTIZATION = {
    "quant_algo": None,
    "kv_cache_quant_algo": None,
    "group_size": 128,
    "smoothquant_val": 0.5,
    "clamp_val": None,
    "use_meta_recipe": False,
    "has_zero_point": False,
    "pre_quant_scale": False,
    "exclude_modules": None,
    "mamba_ssm_cache_dtype": None,
}
"""Fields of `QuantConfig` with their defaults."""


class Refused(Exception):
    """The loader would fail, or warn of what makes a wrong model."""


def load_config(folder: Path) -> dict[str, Json]:
    """config.json with every nested default, as the config class holds it. Raises Refused."""
    config: dict[str, Json] = json.loads((folder / "config.json").read_bytes())
    architecture = config["architecture"]
    if architecture not in facts()["architectures"]:
        raise Refused(f"KeyError: {architecture!r}")
    model_class = find_family(architecture).model_class
    known = facts()["architectures"][architecture]["model_class"]
    if model_class.name != known:
        raise Refused(f"{architecture} is {known}, not {model_class.name}")
    # It warns of any key that no class names, and keeps it: of ours on purpose.
    unknown = config.keys() - model_class.keys.keys() - NAMED - {ATTENTION_WINDOWS}
    if unknown:
        raise Refused(f"Implicitly setting {model_class.name} keys: {sorted(unknown)}")
    nested = {"mapping": MAPPING, "quantization": QUANTIZATION}
    for key, defaults in nested.items():
        extra = config.get(key, {}).keys() - defaults.keys()
        if extra:
            raise Refused(f"TypeError: {key} got unexpected keyword arguments {sorted(extra)}")
        config[key] = {**defaults, **config.get(key, {})}
    sizes = config["mapping"]
    if sizes["world_size"] != sizes["tp_size"] * sizes["pp_size"] * sizes["cp_size"]:
        raise Refused("ValueError: world_size must equal to tp_size * pp_size * cp_size")
    return config


def weight_file(config: dict[str, Json], rank: int) -> str:
    """The file of a rank; cp ranks share one (`PretrainedModel.from_checkpoint`)."""
    tp_size, cp_size = config["mapping"]["tp_size"], config["mapping"]["cp_size"]
    return f"rank{rank % tp_size + rank // (tp_size * cp_size) * tp_size}.safetensors"


def check_weights(folder: Path, config: dict[str, Json], rank: int) -> Path:
    """The rank's file, after every name, shape and dtype was held against the module tree."""
    name = weight_file(config, rank)
    if not (folder / name).is_file():
        raise Refused(f"AssertionError: no file {folder / name}")
    family = find_family(config["architecture"])
    number = int(name.removeprefix("rank").removesuffix(".safetensors"))
    required = expected_inventory(family.model_class.parameters, config, number)
    found = {
        tensor: (info.dtype, tuple(info.shape))
        for tensor, info in read_header(folder / name, name).items()
    }
    missing, extra = required.keys() - found.keys(), found.keys() - required.keys()
    if missing:
        raise Refused(f"Required but not provided tensors:{sorted(missing)}")
    if extra:
        raise Refused(f"Provided but not required tensors:{sorted(extra)}")
    for tensor, wanted in required.items():
        if found[tensor] != wanted:
            raise Refused(f"{tensor}: {found[tensor]}, expected {wanted}")
    return folder / name
