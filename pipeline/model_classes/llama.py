"""LLaMAForCausalLM: what Llama, Mistral, Mixtral, InternLM, Granite, Exaone and others become.

Read: TensorRT-LLM 1.x `models/llama/config.py`, `models/llama/model.py`, `layers/attention.py`,
`layers/mlp.py`, `layers/moe.py`, `models/modeling_utils.py`.
"""

from __future__ import annotations

from pipeline.weights.config_rules import REQUIRED
from pipeline.weights.decoder_parameters import (
    EMBEDDING_PARAMETER,
    HEAD_PARAMETER,
    LAYER,
    attention_parameters,
    expert_parameters,
    mlp_parameters,
    norm_parameters,
)
from pipeline.weights.model_class import BASE_KEYS, NO_EXPERTS, ModelClass

_IS_DENSE = "moe.num_experts == 0"
_HAS_EXPERTS = "moe.num_experts > 0"

LLAMA = ModelClass(
    name="LLaMAForCausalLM",
    keys={
        **BASE_KEYS,
        "mlp_bias": False,
        "attn_bias": False,
        "rotary_base": REQUIRED,
        "rotary_scaling": None,
        "residual_mlp": False,
        "disable_weight_only_quant_plugin": False,
        "moe": NO_EXPERTS,
        "remove_duplicated_kv_heads": False,
        "embedding_multiplier": 1.0,
        "attention_multiplier": 1.0,
        "residual_multiplier": 1.0,
        "output_multiplier_scale": 1.0,
        "fc_after_embed": False,
        "use_input_layernorm_in_first_layer": True,
        "use_last_layernorm": True,
        "layer_idx_offset": 0,
        "has_partial_lora_mask": False,
        "tie_word_embeddings": False,
    },
    parameters=(
        EMBEDDING_PARAMETER,
        *norm_parameters(f"{LAYER}.input_layernorm"),
        *attention_parameters(bias="attn_bias"),
        *norm_parameters(f"{LAYER}.post_layernorm"),
        *mlp_parameters(bias="mlp_bias", when=_IS_DENSE),
        *expert_parameters(when=_HAS_EXPERTS),
        *norm_parameters("transformer.ln_f", on="last"),
        HEAD_PARAMETER,
    ),
)
