"""BaichuanForCausalLM.

Read: TensorRT-LLM 0.17 and 1.x `models/baichuan/config.py`, `models/baichuan/model.py`,
`layers/attention.py`, `layers/mlp.py`. It has no pipeline: every rank embeds, and none sends. The
rotary base is always 10000.
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

BAICHUAN = ModelClass(
    name="BaichuanForCausalLM",
    keys={**BASE_KEYS, "position_embedding_type": REQUIRED, "model_version": REQUIRED},
    parameters=(
        EMBEDDING_PARAMETER,
        *norm_parameters(f"{LAYER}.input_layernorm"),
        *attention_parameters(),
        *norm_parameters(f"{LAYER}.post_layernorm"),
        *mlp_parameters(),
        *norm_parameters("transformer.ln_f", on="last"),
        HEAD_PARAMETER,
    ),
    is_pipelined=False,
)
