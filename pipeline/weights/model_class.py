"""What a model class of TensorRT-LLM is to us: the config keys and the tensors that it reads."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pipeline.artifact import Json
from pipeline.formulas import evaluate
from pipeline.weights.config_rules import REQUIRED, Formula, LeftOut, Required
from pipeline.weights.inventory import Parameter

Default = Json | Required | Formula | LeftOut

NO_EXPERTS: Mapping[str, Json] = MappingProxyType(
    {
        "num_experts": 0,
        "shared_expert_intermediate_size": 0,
        "top_k": 0,
        "normalization_mode": None,
        "sparse_mixer_epsilon": 0.01,
        "tp_mode": 0,
        "device_limited_n_group": 0,
        "device_limited_topk_group": 0,
        "device_limited_routed_scaling_factor": 1.0,
    }
)
"""The `moe` object of a model without experts (TensorRT-LLM 1.x `layers/moe.py`, MoeConfig).

Of nested objects only keys are written that every 1.x release knows: an unknown one is an error
there. Those that came later have the default that the converter would write.
"""

BASE_KEYS: Mapping[str, Default] = MappingProxyType(
    {
        "vocab_size": REQUIRED,
        "hidden_size": REQUIRED,
        "num_hidden_layers": REQUIRED,
        "num_attention_heads": REQUIRED,
        "hidden_act": REQUIRED,
        "logits_dtype": "float32",
        "norm_epsilon": REQUIRED,
        "position_embedding_type": "rope_gpt_neox",
        "max_position_embeddings": REQUIRED,
        "num_key_value_heads": Formula("num_attention_heads"),
        "intermediate_size": Formula("4*hidden_size"),
        "head_size": Formula("hidden_size/num_attention_heads"),
        "qk_layernorm": False,
        "rotary_embedding_dim": Formula("head_size"),
        "runtime_defaults": None,
    }
)
"""Keys of every class (TensorRT-LLM 1.x `models/modeling_utils.py`, PretrainedConfig)."""


@dataclass(frozen=True)
class ModelClass:
    """One class of `tensorrt_llm.models`, as data.

    `keys`: what config.json holds beside what the plan decides (architecture, dtype, mapping,
    quantization, parallel embedding), with the value that it has where a family does not set it;
    a formula is worked out after everything that a family copies.
    `parameters`: what a rank file must hold. `always_parallel_embedding`: with several tp ranks the
    embedding is always shared, on dim 0. `is_pipelined`: its modules are split among pp
    ranks; the others compute all layers on each.
    """

    name: str
    keys: Mapping[str, Default]
    parameters: tuple[Parameter, ...]
    always_parallel_embedding: bool = False
    is_pipelined: bool = True

    def defaults(self) -> dict[str, Json]:
        """A new copy of the keys that have a default."""
        absent = Required | Formula | LeftOut
        given = {key: value for key, value in self.keys.items() if not isinstance(value, absent)}
        return {
            key: dict(value) if isinstance(value, Mapping) else copy.deepcopy(value)
            for key, value in given.items()
        }

    def completed(self, config: Mapping[str, Json]) -> dict[str, Json]:
        """A config.json with the defaults of what it leaves out; null is left out too.

        Raises KeyError where a default is worked out from a key that is not there.
        """
        made = self.defaults()
        for key, value in config.items():
            default = made.get(key)
            if isinstance(default, Mapping) and isinstance(value, Mapping):
                stated = {name: item for name, item in value.items() if item is not None}
                made[key] = {**default, **stated}
            elif value is not None or not (key in made or isinstance(self.keys.get(key), Formula)):
                made[key] = value
        for key, default in self.keys.items():
            if isinstance(default, Formula) and key not in made:
                made[key] = evaluate(default.text, made)
        return made
