"""FalconForCausalLM.

Read: TensorRT-LLM 0.17 and 1.x `models/falcon/config.py`, `models/falcon/model.py`,
`layers/attention.py`, `layers/mlp.py`. `post_layernorm` and the last norm have their default
epsilon, 1e-5. With parallel attention the ranks' results are summed after both linears, biases
included: several tp ranks then count a bias several times.
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
from pipeline.weights.model_class import BASE_KEYS, ModelClass

FALCON = ModelClass(
    name="FalconForCausalLM",
    keys={
        **BASE_KEYS,
        "position_embedding_type": REQUIRED,
        "bias": False,
        "parallel_attention": False,
        "num_ln_in_parallel_attn": None,
        "new_decoder_architecture": False,
        "rotary_base": REQUIRED,
    },
    parameters=(
        EMBEDDING_PARAMETER,
        *norm_parameters(f"{LAYER}.input_layernorm", bias="True"),
        *attention_parameters(bias="bias"),
        *norm_parameters(
            f"{LAYER}.mlp_layernorm",
            bias="True",
            when="new_decoder_architecture and not (num_ln_in_parallel_attn == 1)",
        ),
        *mlp_parameters(gated=False, bias="bias"),
        *norm_parameters(
            f"{LAYER}.post_layernorm",
            bias="True",
            when="not (new_decoder_architecture or parallel_attention)",
        ),
        *norm_parameters("transformer.ln_f", bias="True", on="last"),
        HEAD_PARAMETER,
    ),
)
