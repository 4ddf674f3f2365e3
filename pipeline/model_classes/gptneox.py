"""GPTNeoXForCausalLM: GPT-NeoX-20B, Pythia, Dolly-v2, RedPajama-INCITE and others.

Read: TensorRT-LLM 0.17 `models/gptneox/model.py`, `layers/attention.py`, `layers/mlp.py`,
`models/modeling_utils.py`. Attention and MLP stand side by side, each with its own norm; norms have
the default epsilon 1e-5, the MLP is 4 * hidden_size wide, and there is no exchange between pp
ranks. The layers read `rotary_emb_base`, but the table of angles that attention uses is made from
`rotary_base`, 10000 where config.json has none.
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
from pipeline.weights.model_class import BASE_KEYS, ModelClass

GPTNEOX = ModelClass(
    name="GPTNeoXForCausalLM",
    keys={
        **BASE_KEYS,
        "rotary_embedding_dim": Formula("floor(head_size*rotary_pct)"),
        "rotary_emb_base": REQUIRED,
        "rotary_base": REQUIRED,
        "rotary_pct": REQUIRED,
    },
    parameters=(
        EMBEDDING_PARAMETER,
        *norm_parameters(f"{LAYER}.input_layernorm", bias="True"),
        *norm_parameters(f"{LAYER}.post_attention_layernorm", bias="True"),
        *attention_parameters(bias="True"),
        *mlp_parameters(gated=False, bias="True", rows="4*hidden_size/tp_size"),
        *norm_parameters("transformer.ln_f", bias="True", on="last"),
        HEAD_PARAMETER,
    ),
    is_pipelined=False,
)
