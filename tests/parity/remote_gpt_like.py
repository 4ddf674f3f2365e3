"""EXAONE and the first Qwen, of remote code: blocks of LLaMA under names of GPT-2."""

from __future__ import annotations

from typing import Any

from tests.parity.remote_llama_like import code
from tests.parity.remote_models import Remote, Shapes, prefixed

VOCAB, HIDDEN, MLP, HEADS, KV_HEADS, WIDTH = 113, 24, 40, 6, 2, 4
KV = KV_HEADS * WIDTH
LAYER = "transformer.h.{n}."
ENDS: Shapes = {
    "transformer.wte.weight": (VOCAB, HIDDEN),
    "transformer.ln_f.weight": (HIDDEN,),
}
EXAONE: dict[str, Any] = {
    "activation_function": "silu",
    "architectures": ["ExaoneForCausalLM"],
    "attention_dropout": 0.0,
    "auto_map": code("exaone", "ExaoneConfig", "ExaoneForCausalLM"),
    "bos_token_id": 1,
    "embed_dropout": 0.0,
    "eos_token_id": 2,
    "head_dim": WIDTH,
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": MLP,
    "layer_norm_epsilon": 1e-05,
    "max_position_embeddings": 128,
    "model_type": "exaone",
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "num_layers": 3,
    "pad_token_id": 0,
    "rope_scaling": None,
    "rope_theta": 500000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.1",
    "use_cache": True,
    "vocab_size": VOCAB,
}
EXAONE_ROPE = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 32,
    "rope_type": "llama3",
}
EXAONE_LAYER: Shapes = prefixed(
    LAYER,
    {
        "ln_1.weight": (HIDDEN,),
        "attn.attention.q_proj.weight": (HIDDEN, HIDDEN),
        "attn.attention.k_proj.weight": (KV, HIDDEN),
        "attn.attention.v_proj.weight": (KV, HIDDEN),
        "attn.attention.out_proj.weight": (HIDDEN, HIDDEN),
        "ln_2.weight": (HIDDEN,),
        "mlp.c_fc_0.weight": (MLP, HIDDEN),
        "mlp.c_fc_1.weight": (MLP, HIDDEN),
        "mlp.c_proj.weight": (HIDDEN, MLP),
    },
)
# Half of the `intermediate_size` in the config is the width of each of w1 and w2.
QWEN_LAYER: Shapes = prefixed(
    LAYER,
    {
        "ln_1.weight": (HIDDEN,),
        "attn.c_attn.weight": (3 * HIDDEN, HIDDEN),
        "attn.c_attn.bias": (3 * HIDDEN,),
        "attn.c_proj.weight": (HIDDEN, HIDDEN),
        "ln_2.weight": (HIDDEN,),
        "mlp.w1.weight": (MLP, HIDDEN),
        "mlp.w2.weight": (MLP, HIDDEN),
        "mlp.c_proj.weight": (HIDDEN, MLP),
    },
)
QWEN: dict[str, Any] = {
    "architectures": ["QWenLMHeadModel"],
    "auto_map": {
        "AutoConfig": "configuration_qwen.QWenConfig",
        "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
    },
    "attn_dropout_prob": 0.0,
    "bf16": False,
    "emb_dropout_prob": 0.0,
    "fp16": False,
    "fp32": False,
    "hidden_size": HIDDEN,
    "intermediate_size": 2 * MLP,
    "initializer_range": 0.02,
    "kv_channels": WIDTH,
    "layer_norm_epsilon": 1e-06,
    "max_position_embeddings": 128,
    "model_type": "qwen",
    "no_bias": True,
    "num_attention_heads": HEADS,
    "num_hidden_layers": 3,
    "onnx_safe": None,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "scale_attn_weights": True,
    "seq_length": 64,
    "tie_word_embeddings": False,
    "tokenizer_class": "QWenTokenizer",
    "transformers_version": "4.32.0",
    "use_cache": True,
    "use_dynamic_ntk": True,
    "use_flash_attn": "auto",
    "use_logn_attn": True,
    "vocab_size": VOCAB,
}
GPT_LIKE: dict[str, Remote] = {
    # LGAI-EXAONE/EXAONE-3.0-7.8B-Instruct, and EXAONE-3.5-2.4B-Instruct
    "exaone": Remote(
        "bfloat16", EXAONE, {**ENDS, "lm_head.weight": (VOCAB, HIDDEN)}, (EXAONE_LAYER,) * 3
    ),
    "exaone-3.5-tied": Remote(
        "bfloat16",
        EXAONE | {"rope_scaling": EXAONE_ROPE, "rope_theta": 1e6, "tie_word_embeddings": True},
        ENDS,
        (EXAONE_LAYER,) * 3,
    ),
    # Qwen/Qwen-7B: the config has no data type
    "qwen": Remote(
        "bfloat16", QWEN, {**ENDS, "lm_head.weight": (VOCAB, HIDDEN)}, (QWEN_LAYER,) * 3
    ),
}
