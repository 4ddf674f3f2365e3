"""GPTForCausalLM: GPT-2, GPT-BigCode, StarCoder2, Nemotron and Jais.

Read: TensorRT-LLM 0.17 `models/gpt/config.py`, `models/gpt/model.py`, `layers/attention.py`,
`layers/mlp.py`, `models/modeling_utils.py`. `gpt_variant` only steers TensorRT-LLM's converter; the
class reads the other keys. One `bias` is for all linears; norms always have theirs. A parallel
embedding shares the learned positions too.
"""

from __future__ import annotations

from types import MappingProxyType

from pipeline.weights.config_rules import REQUIRED
from pipeline.weights.decoder_parameters import (
    EMBEDDING_PARAMETER,
    HEAD_PARAMETER,
    LAYER,
    MLP_ROWS,
    attention_parameters,
    linear_parameters,
    mlp_parameters,
    norm_parameters,
)
from pipeline.weights.inventory import Parameter
from pipeline.weights.model_class import BASE_KEYS, NO_EXPERTS, ModelClass

_IS_GATED = "hidden_act == 'swiglu'"

GPT = ModelClass(
    name="GPTForCausalLM",
    keys={
        **BASE_KEYS,
        "position_embedding_type": "learned_absolute",
        "gpt_variant": REQUIRED,
        "bias": True,
        "q_scaling": 1,
        "embedding_scale": None,
        "apply_query_key_layer_scaling": False,
        "rotary_pct": 1.0,
        "rotary_base": 10000.0,
        "rotary_scaling": None,
        "inner_layernorm": False,
        "norm_before_bmm1": False,
        # The class renormalizes by default; without experts it changes nothing.
        "moe": MappingProxyType({**NO_EXPERTS, "normalization_mode": 1}),
    },
    parameters=(
        EMBEDDING_PARAMETER,
        Parameter(
            "transformer.position_embedding.weight",
            (
                "ceil(max_position_embeddings, embedding_row_ranks)",
                "hidden_size/embedding_column_ranks",
            ),
            on="first",
            when="position_embedding_type == 'learned_absolute'",
        ),
        *norm_parameters(f"{LAYER}.input_layernorm", bias="True"),
        *attention_parameters(bias="bias"),
        *norm_parameters(f"{LAYER}.post_layernorm", bias="True"),
        *mlp_parameters(gated=False, bias="bias"),
        *linear_parameters(f"{LAYER}.mlp.gate", MLP_ROWS, "hidden_size", "bias", when=_IS_GATED),
        *norm_parameters("transformer.ln_f", bias="True", on="last"),
        HEAD_PARAMETER,
    ),
)
