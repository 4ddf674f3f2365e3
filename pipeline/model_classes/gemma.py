"""GemmaForCausalLM: Gemma 1, 2 and 3 (text), told apart by the architecture.

Read: TensorRT-LLM 1.x `models/gemma/config.py`, `models/gemma/model.py`, `layers/attention.py`,
`layers/mlp.py`, `models/modeling_utils.py` (Gemma2ConfigGroup, Gemma3ConfigGroup). Norm weights are
complete factors. The embedding is shared on dim 0 wherever tp ranks are, whatever the config says.
Embeddings are multiplied with sqrt(hidden_size) in the graph. Attention is limited to a window by
nothing in the class: for Gemma 3 it only takes another rotary base in layers with a window.
"""

from __future__ import annotations

from collections.abc import Mapping

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
from pipeline.weights.model_class import BASE_KEYS, Default, ModelClass

_NAME = "GemmaForCausalLM"
_KEYS: Mapping[str, Default] = {
    **BASE_KEYS,
    "rotary_base": REQUIRED,
    "attn_bias": False,
    "mlp_bias": False,
    "rotary_scaling": None,
    "inter_layernorms": False,
}
_FOUR_NORMS: Mapping[str, Default] = {
    **_KEYS,
    "inter_layernorms": True,
    "query_pre_attn_scalar": REQUIRED,
}
_PARAMETERS: tuple[Parameter, ...] = (
    EMBEDDING_PARAMETER,
    *norm_parameters(f"{LAYER}.input_layernorm"),
    *attention_parameters(bias="attn_bias"),
    *norm_parameters(f"{LAYER}.post_layernorm"),
    *norm_parameters(f"{LAYER}.pre_feedforward_layernorm", when="inter_layernorms"),
    *mlp_parameters(bias="mlp_bias"),
    *norm_parameters(f"{LAYER}.post_feedforward_layernorm", when="inter_layernorms"),
    *norm_parameters("transformer.ln_f", on="last"),
    HEAD_PARAMETER,
)

GEMMA = ModelClass(name=_NAME, keys=_KEYS, parameters=_PARAMETERS, always_parallel_embedding=True)

GEMMA2 = ModelClass(
    name=_NAME,
    keys={**_FOUR_NORMS, "final_logit_softcapping": REQUIRED, "attn_logit_softcapping": REQUIRED},
    parameters=_PARAMETERS,
    always_parallel_embedding=True,
)

GEMMA3 = ModelClass(
    name=_NAME,
    keys={
        **_FOUR_NORMS,
        "final_logit_softcapping": None,
        "_sliding_window_pattern": REQUIRED,
        "rope_local_base_freq": REQUIRED,
        "sliding_window": REQUIRED,
    },
    parameters=(
        *_PARAMETERS,
        *norm_parameters(f"{LAYER}.attention.q_layernorm", size="head_size"),
        *norm_parameters(f"{LAYER}.attention.k_layernorm", size="head_size"),
    ),
    always_parallel_embedding=True,
)
