"""GPTJForCausalLM: GPT-J-6B and others of its class.

Read: TensorRT-LLM 0.17 `models/gptj/config.py`, `models/gptj/model.py`, `layers/linear.py`,
`layers/mlp.py`. Attention and MLP read one norm, side by side, and their results are summed over
the tp ranks together, after the MLP's bias was added on each. The last norm has the default epsilon
1e-5, the MLP is 4 * hidden_size wide. Its modules are split among pp ranks, but their forward pass
neither sends nor receives: a checkpoint for several can be made, an engine of it cannot be built.
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

GPTJ = ModelClass(
    name="GPTJForCausalLM",
    keys={
        **BASE_KEYS,
        "position_embedding_type": "rope_gptj",
        "rotary_dim": REQUIRED,
    },
    parameters=(
        EMBEDDING_PARAMETER,
        *norm_parameters(f"{LAYER}.input_layernorm", bias="True"),
        *attention_parameters(),
        *mlp_parameters(gated=False, bias="True", rows="4*hidden_size/tp_size"),
        *norm_parameters("transformer.ln_f", bias="True", on="last"),
        HEAD_PARAMETER,
        Parameter("lm_head.bias", ("ceil(vocab_size, tp_size)",), on="last"),
    ),
)
