"""Checkpoints and settings to judge, as changes to a Llama of 8 billion parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.artifact import Json
from pipeline.engines.trtllm.judgement import rule_facts
from pipeline.recipe.schema import EngineSettings

LLAMA: dict[str, Json] = {
    "architecture": "LlamaForCausalLM",
    "dtype": "bfloat16",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_size": 128,
    "hidden_act": "silu",
    "position_embedding_type": "rope_gpt_neox",
    "max_position_embeddings": 8192,
    "rotary_base": 500000.0,
    "rotary_scaling": None,
    "rotary_embedding_dim": 128,
    "moe": {"num_experts": 0},
    "residual_multiplier": 1.0,
    "use_parallel_embedding": False,
    "embedding_sharding_dim": 0,
}

UNFUSED = {"context_fmha": False, "require_fused": False}


@dataclass(frozen=True)
class Case:
    """Settings by key of `engine`, keys of config.json, sizes of its mapping, one target."""

    engine: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Json] = field(default_factory=dict)
    mapping: Mapping[str, int] = field(default_factory=dict)
    target: str = "sm90"

    @property
    def settings(self) -> EngineSettings:
        """The settings, with the one target."""
        return EngineSettings.model_validate({"targets": [self.target], **self.engine})

    @property
    def config(self) -> dict[str, Json]:
        """The checkpoint's config.json."""
        sizes = {"tp_size": 1, "pp_size": 1, "cp_size": 1, "moe_ep_size": 1, **self.mapping}
        world_size = sizes["tp_size"] * sizes["pp_size"] * sizes["cp_size"]
        sizes |= {
            "world_size": world_size,
            "moe_tp_size": sizes["tp_size"] // sizes["moe_ep_size"],
            "gpus_per_node": 8,
        }
        return {**LLAMA, **self.model, "mapping": sizes}

    @property
    def facts(self) -> dict[str, Json]:
        """What rules read."""
        return rule_facts(self.config, self.settings, self.target)


def case(target: str = "sm90", model: Mapping[str, Json] | None = None, **engine: Any) -> Case:
    """A case of one rank."""
    return Case(engine, model or {}, {}, target)


def ranks(
    model: Mapping[str, Json] | None = None,
    engine: Mapping[str, Any] | None = None,
    target: str = "sm90",
    **mapping: int,
) -> Case:
    """A case of several ranks."""
    return Case(engine or {}, model or {}, mapping, target)


def quantised(algo: str | None, cache: str | None = None, **model: Json) -> dict[str, Json]:
    """Keys of config.json for a quantised checkpoint."""
    return {"quantization": {"quant_algo": algo, "kv_cache_quant_algo": cache}, **model}
