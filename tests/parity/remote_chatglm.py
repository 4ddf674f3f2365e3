"""The ChatGLM models, and Phi-3-small: remote code, fused projections, names of their own."""

from __future__ import annotations

from typing import Any

from tests.parity.remote_models import Remote, Shapes, prefixed, with_biases

VOCAB, HIDDEN, MLP, HEADS, KV_HEADS, WIDTH = 113, 32, 40, 4, 2, 8
QKV = HIDDEN + 2 * KV_HEADS * WIDTH

CHATGLM: dict[str, Any] = {
    "model_type": "chatglm",
    "architectures": ["ChatGLMModel"],
    "auto_map": {
        "AutoConfig": "configuration_chatglm.ChatGLMConfig",
        "AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration",
        "AutoModelForCausalLM": "modeling_chatglm.ChatGLMForConditionalGeneration",
        "AutoModelForSeq2SeqLM": "modeling_chatglm.ChatGLMForConditionalGeneration",
    },
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_query_key_layer_scaling": True,
    "apply_residual_connection_post_layernorm": False,
    "attention_dropout": 0.0,
    "attention_softmax_in_fp32": True,
    "bias_dropout_fusion": True,
    "ffn_hidden_size": MLP,
    "fp32_residual_connection": False,
    "hidden_dropout": 0.0,
    "hidden_size": HIDDEN,
    "kv_channels": WIDTH,
    "layernorm_epsilon": 1e-05,
    "multi_query_attention": True,
    "multi_query_group_num": KV_HEADS,
    "num_attention_heads": HEADS,
    "num_layers": 3,
    "original_rope": True,
    "padded_vocab_size": VOCAB,
    "post_layer_norm": True,
    "rmsnorm": True,
    "seq_length": 128,
    "use_cache": True,
    "torch_dtype": "float16",
    "transformers_version": "4.30.2",
    "tie_word_embeddings": False,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LAYER: Shapes = prefixed(
    "transformer.encoder.layers.{n}.",
    {
        "input_layernorm.weight": (HIDDEN,),
        "self_attention.query_key_value.weight": (QKV, HIDDEN),
        "self_attention.query_key_value.bias": (QKV,),
        "self_attention.dense.weight": (HIDDEN, HIDDEN),
        "post_attention_layernorm.weight": (HIDDEN,),
        "mlp.dense_h_to_4h.weight": (2 * MLP, HIDDEN),
        "mlp.dense_4h_to_h.weight": (HIDDEN, MLP),
    },
)
OUTER: Shapes = {
    "transformer.embedding.word_embeddings.weight": (VOCAB, HIDDEN),
    "transformer.encoder.final_layernorm.weight": (HIDDEN,),
    "transformer.output_layer.weight": (VOCAB, HIDDEN),
    "transformer.rotary_pos_emb.inv_freq": (WIDTH // 4,),
}


def chatglm(dtype: str, name: str, changes: dict[str, Any]) -> Remote:
    """One of the ChatGLM models since the second: they differ in their configs only."""
    config = {"_name_or_path": name} | CHATGLM | {"torch_dtype": dtype} | changes
    return Remote(dtype, config, OUTER, (LAYER,) * 3, ("inv_freq",))


PHI3_SMALL: dict[str, Any] = {
    "architectures": ["Phi3SmallForCausalLM"],
    "attention_bias": False,
    "attention_dropout_prob": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_phi3_small.Phi3SmallConfig",
        "AutoModelForCausalLM": "modeling_phi3_small.Phi3SmallForCausalLM",
    },
    "blocksparse_block_size": 64,
    "blocksparse_homo_head_pattern": False,
    "blocksparse_num_local_blocks": 16,
    "blocksparse_triton_kernel_block_size": 64,
    "blocksparse_vert_stride": 8,
    "bos_token_id": 0,
    "dense_attention_every_n_layers": 2,
    "embedding_dropout_prob": 0.1,
    "eos_token_id": 0,
    "ff_dim_multiplier": None,
    "ff_intermediate_size": MLP,
    "ffn_dropout_prob": 0.1,
    "gegelu_limit": 20.0,
    "gegelu_pad_to_256": True,
    "hidden_act": "gegelu",
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "max_position_embeddings": 8192,
    "model_type": "phi3small",
    "mup_attn_multiplier": 1.0,
    "mup_embedding_multiplier": 10.0,
    "mup_use_scaling": True,
    "mup_width_multiplier": 8.0,
    "num_attention_heads": HEADS,
    "num_hidden_layers": 3,
    "num_key_value_heads": KV_HEADS,
    "pad_sequence_to_multiple_of_64": True,
    "reorder_and_upcast_attn": False,
    "rope_embedding_base": 1000000,
    "rope_position_scale": 1.0,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.38.1",
    "use_cache": True,
    "vocab_size": VOCAB,
}
PHI3_SMALL_LONG = {
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 8192,
    "rope_scaling": {
        "type": "su",
        "short_factor": [1.0, 1.02, 1.1, 1.3],
        "long_factor": [1.0, 1.4, 9.0, 40.5],
        "short_mscale": 1.1902380714238083,
        "long_mscale": 1.1902380714238083,
        "original_max_position_embeddings": 8192,
    },
}
PHI3_SMALL_LAYER: Shapes = prefixed(
    "model.layers.{n}.",
    with_biases(
        {
            "input_layernorm": (HIDDEN,),
            "self_attn.query_key_value": (QKV, HIDDEN),
            "self_attn.dense": (HIDDEN, HIDDEN),
            "post_attention_layernorm": (HIDDEN,),
            "mlp.up_proj": (2 * MLP, HIDDEN),
            "mlp.down_proj": (HIDDEN, MLP),
        }
    ),
)
PHI3_SMALL_OUTER: Shapes = {
    "model.embed_tokens.weight": (VOCAB, HIDDEN),
    **with_biases({"model.final_layernorm": (HIDDEN,)}),
}

FUSED: dict[str, Remote] = {
    "chatglm2": chatglm("float16", "THUDM/chatglm2-6b", {"transformers_version": "4.27.1"}),
    "chatglm3": chatglm("float16", "THUDM/chatglm3-6b", {}),
    "chatglm3-32k": chatglm("float16", "THUDM/chatglm3-6b-32k", {"rope_ratio": 50}),
    "glm4-9b": chatglm(
        "bfloat16",
        "THUDM/glm-4-9b-chat",
        {
            "attn_implementation": "sdpa",
            "eos_token_id": [2, 3, 4],
            "layernorm_epsilon": 1.5625e-07,
            "num_hidden_layers": 3,
            "pad_token_id": 2,
            "rope_ratio": 500,
            "transformers_version": "4.44.0",
        },
    ),
    # microsoft/Phi-3-small-8k-instruct and -128k-instruct
    "phi3small": Remote("bfloat16", PHI3_SMALL, PHI3_SMALL_OUTER, (PHI3_SMALL_LAYER,) * 3),
    "phi3small-128k": Remote(
        "bfloat16",
        PHI3_SMALL | PHI3_SMALL_LONG | {"num_hidden_layers": 2},
        PHI3_SMALL_OUTER,
        (PHI3_SMALL_LAYER,) * 2,
    ),
}
