"""PhiForCausalLM: Phi-1, Phi-1.5 and Phi-2. Attention and MLP read one norm, side by side.

Read: TensorRT-LLM 1.x `models/phi/config.py`, `models/phi/model.py`, `layers/attention.py`,
`layers/mlp.py`, `models/modeling_utils.py`. All linears have biases, the head too. The class builds
its norms with the default epsilon 1e-5, gives attention no number of K/V heads, and has no exchange
between pp ranks.
"""

from __future__ import annotations

from pipeline.weights.config_rules import REQUIRED, Formula
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

HEAD_BIAS_PARAMETER = Parameter("lm_head.bias", ("ceil(vocab_size, tp_size)",), on="last")

PHI = ModelClass(
    name="PhiForCausalLM",
    keys={
        **BASE_KEYS,
        "rotary_embedding_dim": Formula("floor(head_size*rotary_pct)"),
        "rotary_base": REQUIRED,
        "rotary_scaling": None,
        "rotary_pct": REQUIRED,
    },
    parameters=(
        EMBEDDING_PARAMETER,
        *norm_parameters(f"{LAYER}.input_layernorm", bias="True"),
        *attention_parameters(bias="True"),
        *mlp_parameters(gated=False, bias="True"),
        *norm_parameters("transformer.ln_f", bias="True", on="last"),
        HEAD_PARAMETER,
        HEAD_BIAS_PARAMETER,
    ),
    is_pipelined=False,
)
