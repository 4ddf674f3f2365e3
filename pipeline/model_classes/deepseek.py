"""DeepseekForCausalLM: Llama's attention; a dense first layer, then experts and a shared expert.

Read: TensorRT-LLM 1.x `models/deepseek_v1/config.py`, `models/deepseek_v1/model.py`,
`layers/moe.py` (SharedMoE), `layers/mlp.py`. The class makes experts of all layers but the first,
whatever its config says, and never shares its embedding among ranks.
"""

from __future__ import annotations

from pipeline.weights.config_rules import REQUIRED
from pipeline.weights.decoder_parameters import (
    HEAD_PARAMETER,
    LAYER,
    attention_parameters,
    expert_parameters,
    linear_parameters,
    mlp_parameters,
    norm_parameters,
)
from pipeline.weights.inventory import Parameter
from pipeline.weights.model_class import BASE_KEYS, NO_EXPERTS, ModelClass

_DENSE = "layer == 0"
_EXPERTS = "layer > 0"
_SHARED = f"{LAYER}.mlp.shared_expert"
_SHARED_ROWS = "moe.shared_expert_intermediate_size/tp_size"

DEEPSEEK = ModelClass(
    name="DeepseekForCausalLM",
    keys={
        **BASE_KEYS,
        "rotary_base": REQUIRED,
        "rotary_scaling": None,
        "moe": NO_EXPERTS,
        "moe_intermediate_size": REQUIRED,
    },
    parameters=(
        Parameter("transformer.vocab_embedding.weight", ("vocab_size", "hidden_size"), on="first"),
        *norm_parameters(f"{LAYER}.input_layernorm"),
        *attention_parameters(),
        *norm_parameters(f"{LAYER}.post_layernorm"),
        *mlp_parameters(when=_DENSE),
        *expert_parameters(size="moe_intermediate_size", when=_EXPERTS),
        *linear_parameters(f"{_SHARED}.fc", f"2*({_SHARED_ROWS})", "hidden_size", when=_EXPERTS),
        *linear_parameters(f"{_SHARED}.proj", "hidden_size", _SHARED_ROWS, when=_EXPERTS),
        *norm_parameters("transformer.ln_f", on="last"),
        HEAD_PARAMETER,
    ),
)
