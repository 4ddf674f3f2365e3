"""QWenForCausalLM: Qwen 1, 1.5, 2, 2.5 and 3, dense and with experts, told apart by `qwen_type`.

Read: TensorRT-LLM 1.x `models/qwen/config.py`, `models/qwen/model.py`, `layers/attention.py`,
`layers/mlp.py`, `layers/moe.py` (SharedMoE), `models/modeling_utils.py`. The class sets
`max_seqlen_for_logn_scaling` from `seq_length`, halves `intermediate_size` for `qwen`, and norms
queries and keys for `qwen3` and `qwen3_moe`, whatever `qk_layernorm` says. The output projection
never has a bias. The shared expert is one linear of up and gate rows, split over all tp ranks.
"""

from __future__ import annotations

from pipeline.formulas import both
from pipeline.weights.config_rules import REQUIRED
from pipeline.weights.decoder_parameters import (
    EMBEDDING_PARAMETER,
    HEAD_PARAMETER,
    LAYER,
    attention_parameters,
    expert_parameters,
    mlp_parameters,
    norm_parameters,
)
from pipeline.weights.inventory import Parameter
from pipeline.weights.model_class import BASE_KEYS, NO_EXPERTS, ModelClass

_IS_DENSE = "moe.num_experts == 0"
_IS_FIRST = "qwen_type == 'qwen'"
_HAS_HEAD_NORMS = "qwen_type in ('qwen3', 'qwen3_moe')"
_HAS_SHARED_EXPERT = "qwen_type == 'qwen2_moe'"
_SHARED = f"{LAYER}.mlp.shared_expert"
_SHARED_ROWS = "moe_shared_expert_intermediate_size/tp_size"

QWEN = ModelClass(
    name="QWenForCausalLM",
    keys={
        **BASE_KEYS,
        "mlp_bias": False,
        "attn_bias": True,
        "rotary_base": REQUIRED,
        "rotary_scaling": None,
        "disable_weight_only_quant_plugin": False,
        "num_labels": 1,
        "use_logn_attn": False,
        "mlp_only_layers": [],
        "decoder_sparse_step": 1,
        "moe": {**NO_EXPERTS, "normalization_mode": 0},
        "seq_length": 8192,
        "qwen_type": REQUIRED,
        "moe_intermediate_size": 0,
        "moe_shared_expert_intermediate_size": 0,
        "tie_word_embeddings": False,
    },
    parameters=(
        EMBEDDING_PARAMETER,
        *norm_parameters(f"{LAYER}.input_layernorm"),
        *attention_parameters(bias="attn_bias", dense_bias="False"),
        *norm_parameters(f"{LAYER}.attention.q_layernorm", size="head_size", when=_HAS_HEAD_NORMS),
        *norm_parameters(f"{LAYER}.attention.k_layernorm", size="head_size", when=_HAS_HEAD_NORMS),
        *norm_parameters(f"{LAYER}.post_layernorm"),
        *mlp_parameters(when=both(_IS_DENSE, f"not ({_IS_FIRST})")),
        *mlp_parameters(rows="intermediate_size/2/tp_size", when=both(_IS_DENSE, _IS_FIRST)),
        *expert_parameters(size="moe_intermediate_size", when=f"not ({_IS_DENSE})"),
        Parameter(
            f"{_SHARED}.fc.weight", (f"2*({_SHARED_ROWS})", "hidden_size"), when=_HAS_SHARED_EXPERT
        ),
        Parameter(f"{_SHARED}.proj.weight", ("hidden_size", _SHARED_ROWS), when=_HAS_SHARED_EXPERT),
        Parameter(f"{_SHARED}_gate.weight", ("1", "hidden_size"), when=_HAS_SHARED_EXPERT),
        *norm_parameters("transformer.ln_f", on="last"),
        HEAD_PARAMETER,
    ),
)
