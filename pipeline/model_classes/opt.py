"""OPTForCausalLM.

Read: TensorRT-LLM 0.17 and 1.x `models/opt/model.py`, `models/modeling_utils.py`
(`parallelize_embedding`), `layers/attention.py`, `layers/mlp.py`. It has no pipeline: every rank
embeds, and none sends. Its norms keep their default epsilon, 1e-5. A parallel embedding shares the
table of positions too.
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

OPT = ModelClass(
    name="OPTForCausalLM",
    keys={
        **BASE_KEYS,
        "norm_epsilon": 1e-5,
        "position_embedding_type": "learned_absolute",
        "do_layer_norm_before": REQUIRED,
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
        ),
        *norm_parameters(f"{LAYER}.input_layernorm", bias="True"),
        *attention_parameters(bias="True"),
        *norm_parameters(f"{LAYER}.post_layernorm", bias="True"),
        *mlp_parameters(gated=False, bias="True"),
        *norm_parameters("transformer.ln_f", bias="True", on="last", when="do_layer_norm_before"),
        HEAD_PARAMETER,
    ),
    is_pipelined=False,
)
