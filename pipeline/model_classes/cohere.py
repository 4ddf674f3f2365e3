"""CohereForCausalLM: Command R and Aya. Attention and MLP read one norm, side by side.

Read: TensorRT-LLM 1.x `models/commandr/config.py`, `models/commandr/model.py`,
`layers/attention.py`, `layers/normalization.py`, `layers/embedding.py`,
`models/modeling_utils.py`. Norms have no bias; those of queries and keys have a row per head, and
ranks hold the rows of their heads. The class gives its embedding to the tp ranks itself, on dim 0,
whatever `use_parallel_embedding` says.
"""

from __future__ import annotations

from pipeline.weights.config_rules import REQUIRED
from pipeline.weights.decoder_parameters import (
    EMBEDDING_PARAMETER,
    HEAD_PARAMETER,
    LAYER,
    attention_parameters,
    mlp_parameters,
    norm_parameters,
)
from pipeline.weights.inventory import Parameter
from pipeline.weights.model_class import BASE_KEYS, ModelClass

COHERE = ModelClass(
    name="CohereForCausalLM",
    keys={
        **BASE_KEYS,
        "position_embedding_type": "rope_gptj",
        "output_multiplier_scale": REQUIRED,
        "rotary_base": REQUIRED,
        "attn_bias": False,
    },
    parameters=(
        EMBEDDING_PARAMETER,
        *norm_parameters(f"{LAYER}.input_layernorm"),
        *attention_parameters(bias="attn_bias"),
        Parameter(
            f"{LAYER}.attention.q_layernorm.weight",
            ("num_attention_heads/tp_size", "head_size"),
            when="qk_layernorm",
        ),
        Parameter(
            f"{LAYER}.attention.k_layernorm.weight",
            ("ceil(num_key_value_heads, tp_size)", "head_size"),
            when="qk_layernorm",
        ),
        *mlp_parameters(),
        *norm_parameters("transformer.ln_f", on="last"),
        HEAD_PARAMETER,
    ),
    always_parallel_embedding=True,
)
