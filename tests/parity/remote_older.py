"""Older remote-code forms of classes that transformers has: Falcon and MPT."""

from __future__ import annotations

from typing import Any

from tests.parity.remote_models import Remote, Shapes, prefixed, with_biases

VOCAB, HIDDEN, HEADS, KV_HEADS, WIDTH = 113, 24, 6, 2, 4
FALCON: dict[str, Any] = {
    "apply_residual_connection_post_layernorm": False,
    "architectures": ["RWForCausalLM"],
    "attention_dropout": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_RW.RWConfig",
        "AutoModel": "modelling_RW.RWModel",
        "AutoModelForCausalLM": "modelling_RW.RWForCausalLM",
    },
    "bias": False,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "hidden_dropout": 0.0,
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "n_head": HEADS,
    "n_layer": 2,
    "parallel_attn": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.27.4",
    "use_cache": True,
    "vocab_size": VOCAB,
    "alibi": False,
}


def falcon_layer(kv_heads: int, *norms: str) -> Shapes:
    """A layer of Falcon: no biases but those of the norms."""
    weights = {
        "self_attention.query_key_value.weight": (HIDDEN + 2 * kv_heads * WIDTH, HIDDEN),
        "self_attention.dense.weight": (HIDDEN, HIDDEN),
        "mlp.dense_h_to_4h.weight": (4 * HIDDEN, HIDDEN),
        "mlp.dense_4h_to_h.weight": (HIDDEN, 4 * HIDDEN),
    }
    scales = with_biases(dict.fromkeys(norms, (HIDDEN,)))
    return prefixed("transformer.h.{n}.", {**weights, **scales})


FALCON_OUTER: Shapes = {
    "transformer.word_embeddings.weight": (VOCAB, HIDDEN),
    **with_biases({"transformer.ln_f": (HIDDEN,)}),
    "lm_head.weight": (VOCAB, HIDDEN),
}
MPT: dict[str, Any] = {
    "architectures": ["MPTForCausalLM"],
    "attn_config": {
        "alibi": True,
        "alibi_bias_max": 8,
        "attn_impl": "triton",
        "attn_pdrop": 0,
        "attn_type": "grouped_query_attention",
        "attn_uses_sequence_id": False,
        "clip_qkv": None,
        "kv_n_heads": KV_HEADS,
        "prefix_lm": False,
        "qk_ln": False,
        "softmax_scale": None,
    },
    "auto_map": {
        "AutoConfig": "configuration_mpt.MPTConfig",
        "AutoModelForCausalLM": "modeling_mpt.MPTForCausalLM",
    },
    "d_model": HIDDEN,
    "emb_pdrop": 0,
    "embedding_fraction": 1.0,
    "expansion_ratio": 4,
    "init_device": "cpu",
    "learned_pos_emb": False,
    "logit_scale": None,
    "max_seq_len": 128,
    "model_type": "mpt",
    "n_heads": HEADS,
    "n_layers": 2,
    "no_bias": True,
    "norm_type": "low_precision_layernorm",
    "resid_pdrop": 0,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.33.2",
    "use_cache": False,
    "verbose": 0,
    "vocab_size": VOCAB,
}
MPT_LAYER: Shapes = prefixed(
    "transformer.blocks.{n}.",
    {
        "norm_1.weight": (HIDDEN,),
        "attn.Wqkv.weight": (HIDDEN + 2 * KV_HEADS * WIDTH, HIDDEN),
        "attn.out_proj.weight": (HIDDEN, HIDDEN),
        "norm_2.weight": (HIDDEN,),
        "ffn.up_proj.weight": (4 * HIDDEN, HIDDEN),
        "ffn.down_proj.weight": (HIDDEN, 4 * HIDDEN),
    },
)
FALCON_TIED = {"lm_head.weight": "transformer.word_embeddings.weight"}
OLDER: dict[str, Remote] = {
    # tiiuae/falcon-7b and tiiuae/falcon-40b, as first published
    "falcon-refinedweb-7b": Remote(
        "bfloat16",
        FALCON | {"model_type": "RefinedWebModel", "multi_query": True},
        FALCON_OUTER,
        (falcon_layer(1, "input_layernorm"),) * 2,
        tied=FALCON_TIED,
    ),
    "falcon-refinedweb-40b": Remote(
        "bfloat16",
        FALCON | {"model_type": "RefinedWeb", "n_head_kv": KV_HEADS},
        FALCON_OUTER,
        (falcon_layer(KV_HEADS, "ln_attn", "ln_mlp"),) * 2,
        tied=FALCON_TIED,
    ),
    # replit/replit-code-v1_5-3b
    "mpt-gqa": Remote(
        "bfloat16",
        MPT,
        {"transformer.wte.weight": (VOCAB, HIDDEN), "transformer.norm_f.weight": (HIDDEN,)},
        (MPT_LAYER,) * 2,
    ),
}
