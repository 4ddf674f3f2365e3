"""DeciLMForCausalLM: every layer says in `layer_configs` what its attention and its MLP are.

Read: TensorRT-LLM 1.x `models/nemotron_nas/config.py`, `models/nemotron_nas/layer_config.py`,
`models/nemotron_nas/model.py`. Each may be left out (`no_op`), with its norm, or be one linear
(`linear`). The class works `layer_types` and `num_kv_heads_per_layer` out by itself, and never
shares its embedding among ranks.
"""

from __future__ import annotations

from pipeline.weights.config_rules import REQUIRED
from pipeline.weights.decoder_parameters import (
    HEAD_PARAMETER,
    LAYER,
    QUERY_ROWS,
    linear_parameters,
    mlp_parameters,
    norm_parameters,
)
from pipeline.weights.inventory import Parameter
from pipeline.weights.model_class import BASE_KEYS, ModelClass

_ATTENTION = "layer_configs[layer].attention"
_FFN = "layer_configs[layer].ffn"
_IS_ATTENTION = f"{_ATTENTION}.impl == 'attention'"
_KV_HEADS = (
    f"(num_key_value_heads if {_ATTENTION}.num_key_value_heads == None "
    f"else {_ATTENTION}.num_key_value_heads)"
)
_MLP_SIZE = f"(intermediate_size if {_FFN}.intermediate_size == None else {_FFN}.intermediate_size)"

DECI = ModelClass(
    name="DeciLMForCausalLM",
    keys={**BASE_KEYS, "rotary_base": REQUIRED, "rotary_scaling": None, "layer_configs": None},
    parameters=(
        Parameter("transformer.vocab_embedding.weight", ("vocab_size", "hidden_size"), on="first"),
        *norm_parameters(f"{LAYER}.input_layernorm", when=f"{_ATTENTION}.impl != 'no_op'"),
        *linear_parameters(
            f"{LAYER}.attention.qkv",
            f"{QUERY_ROWS} + 2*ceil({_KV_HEADS}, tp_size)*head_size",
            "hidden_size",
            when=_IS_ATTENTION,
        ),
        *linear_parameters(
            f"{LAYER}.attention.dense", "hidden_size", QUERY_ROWS, when=_IS_ATTENTION
        ),
        *linear_parameters(
            f"{LAYER}.attention",
            "hidden_size/tp_size",
            "hidden_size",
            when=f"{_ATTENTION}.impl == 'linear'",
        ),
        *norm_parameters(f"{LAYER}.post_layernorm", when=f"{_FFN}.impl != 'no_op'"),
        *mlp_parameters(
            rows=f"{_MLP_SIZE}/tp_size", name=f"{LAYER}.ffn", when=f"{_FFN}.impl == 'mlp'"
        ),
        *linear_parameters(
            f"{LAYER}.ffn", "hidden_size/tp_size", "hidden_size", when=f"{_FFN}.impl == 'linear'"
        ),
        *norm_parameters("transformer.ln_f", on="last"),
        HEAD_PARAMETER,
    ),
)
