"""DeepseekV2ForCausalLM: attention over a compressed K/V; experts as in the first DeepSeek.

Read: TensorRT-LLM 1.x `models/deepseek_v2/config.py`, `models/deepseek_v2/model.py`,
`layers/attention.py` (DeepseekV2Attention), `layers/moe.py` (SharedMoE), and the inputs of its
attention plugin. `k_b_proj_trans` takes the place of `fused_q_proj`, a product of two
weights, in the parameters but not in the forward pass: both are required here. The class makes
experts of all layers but the first, whatever its config says, has room in `kv_b_proj` for values as
wide as `qk_nope_head_dim` only, and never shares its embedding among ranks.
"""

from __future__ import annotations

from pipeline.weights.config_rules import REQUIRED
from pipeline.weights.decoder_parameters import (
    HEAD_PARAMETER,
    LAYER,
    expert_parameters,
    linear_parameters,
    mlp_parameters,
    norm_parameters,
)
from pipeline.weights.inventory import Parameter
from pipeline.weights.model_class import BASE_KEYS, NO_EXPERTS, ModelClass

_DENSE = "layer == 0"
_EXPERTS = "layer > 0"
_HEADS = "num_attention_heads/tp_size"
_QUERY_COLUMNS = "hidden_size if q_lora_rank == None else q_lora_rank"
_ATTENTION = f"{LAYER}.attention"
_SHARED = f"{LAYER}.mlp.shared_expert"
_SHARED_ROWS = "moe.shared_expert_intermediate_size/tp_size"

DEEPSEEK2 = ModelClass(
    name="DeepseekV2ForCausalLM",
    keys={
        **BASE_KEYS,
        "rotary_base": REQUIRED,
        "rotary_scaling": REQUIRED,
        "moe": NO_EXPERTS,
        "moe_inter_size": REQUIRED,
        "kv_lora_rank": REQUIRED,
        "q_lora_rank": REQUIRED,
        "qk_nope_head_dim": REQUIRED,
        "qk_rope_head_dim": REQUIRED,
        "v_head_dim": REQUIRED,
        "topk_method": REQUIRED,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "scoring_func": "softmax",
    },
    parameters=(
        Parameter("transformer.vocab_embedding.weight", ("vocab_size", "hidden_size"), on="first"),
        *norm_parameters(f"{LAYER}.input_layernorm"),
        *linear_parameters(
            f"{_ATTENTION}.fused_a",
            "(0 if q_lora_rank == None else q_lora_rank) + kv_lora_rank + qk_rope_head_dim",
            "hidden_size",
        ),
        *norm_parameters(
            f"{_ATTENTION}.q_a_layernorm", size="q_lora_rank", when="q_lora_rank != None"
        ),
        *norm_parameters(f"{_ATTENTION}.kv_a_layernorm", size="kv_lora_rank"),
        Parameter(f"{_ATTENTION}.k_b_proj_trans", (f"{_HEADS}*kv_lora_rank", "qk_nope_head_dim")),
        Parameter(
            f"{_ATTENTION}.fused_q_proj",
            (f"{_HEADS}*(kv_lora_rank + qk_rope_head_dim)", _QUERY_COLUMNS),
        ),
        Parameter(
            f"{_ATTENTION}.q_b_proj",
            (f"{_HEADS}*(qk_nope_head_dim + qk_rope_head_dim)", _QUERY_COLUMNS),
        ),
        Parameter(f"{_ATTENTION}.kv_b_proj", (f"{_HEADS}*qk_nope_head_dim*2", "kv_lora_rank")),
        *linear_parameters(f"{_ATTENTION}.dense", "hidden_size", f"{_HEADS}*v_head_dim"),
        *norm_parameters(f"{LAYER}.post_layernorm"),
        *mlp_parameters(when=_DENSE),
        *expert_parameters(size="moe_inter_size", when=_EXPERTS),
        *linear_parameters(f"{_SHARED}.fc", f"2*({_SHARED_ROWS})", "hidden_size", when=_EXPERTS),
        *linear_parameters(f"{_SHARED}.proj", "hidden_size", _SHARED_ROWS, when=_EXPERTS),
        *norm_parameters("transformer.ln_f", on="last"),
        HEAD_PARAMETER,
    ),
)
