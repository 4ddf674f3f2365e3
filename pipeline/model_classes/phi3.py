"""Phi3ForCausalLM: Phi-3 to Phi-4 as `PHI3`, Phi-3-small as `PHI3_SMALL`.

Read: TensorRT-LLM 1.x `models/phi3/config.py`, `models/phi3/model.py`, `layers/attention.py`,
`layers/mlp.py`, `functional.py` (`swiglu`, `gegelu`), `models/modeling_utils.py`. The class tells
its variants apart by the architecture that config.json names, and its positions by the presence of
`longrope_scaling_short_factors`. It has no exchange between pp ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.weights.config_rules import LEFT_OUT, REQUIRED, Formula
from pipeline.weights.decoder_parameters import (
    EMBEDDING_PARAMETER,
    HEAD_PARAMETER,
    LAYER,
    MLP_ROWS,
    attention_parameters,
    linear_parameters,
    norm_parameters,
)
from pipeline.weights.inventory import Parameter
from pipeline.weights.model_class import BASE_KEYS, Default, ModelClass

PHI3_KEYS: Mapping[str, Default] = MappingProxyType(
    {
        **BASE_KEYS,
        "rotary_embedding_dim": Formula("floor(head_size*rotary_pct)"),
        "rotary_base": 10000.0,
        "rotary_scaling": None,
        "rotary_pct": 1.0,
        "tie_word_embeddings": False,
        "original_max_position_embeddings": LEFT_OUT,
        "longrope_scaling_short_factors": LEFT_OUT,
        "longrope_scaling_long_factors": LEFT_OUT,
    }
)
"""Keys of all variants."""


def _parameters(bias: str | None) -> tuple[Parameter, ...]:
    """The parameters; `bias` is the condition for those of linears and norms.

    An activation that makes one value of two is not a gated MLP here: `fc` has all rows.
    """
    return (
        EMBEDDING_PARAMETER,
        *norm_parameters(f"{LAYER}.input_layernorm", bias),
        *attention_parameters(bias),
        *norm_parameters(f"{LAYER}.post_layernorm", bias),
        *linear_parameters(f"{LAYER}.mlp.fc", f"2*({MLP_ROWS})", "hidden_size", bias),
        *linear_parameters(f"{LAYER}.mlp.proj", "hidden_size", MLP_ROWS, bias),
        *norm_parameters("transformer.ln_f", bias, on="last"),
        HEAD_PARAMETER,
    )


PHI3 = ModelClass(
    name="Phi3ForCausalLM", keys=PHI3_KEYS, parameters=_parameters(None), is_pipelined=False
)

PHI3_SMALL = ModelClass(
    name="Phi3ForCausalLM",
    keys={
        **PHI3_KEYS,
        "longrope_short_mscale": LEFT_OUT,
        "longrope_long_mscale": LEFT_OUT,
        "gegelu_limit": REQUIRED,
        "mup_attn_multiplier": REQUIRED,
        "mup_embedding_multiplier": REQUIRED,
        "mup_use_scaling": REQUIRED,
        "mup_width_multiplier": REQUIRED,
        "blocksparse_block_size": REQUIRED,
        "blocksparse_homo_head_pattern": REQUIRED,
        "blocksparse_num_local_blocks": REQUIRED,
        "blocksparse_vertical_stride": REQUIRED,
        "dense_attention_every_n_layers": REQUIRED,
    },
    parameters=_parameters("True"),
    is_pipelined=False,
)
