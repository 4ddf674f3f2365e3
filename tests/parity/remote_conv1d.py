"""JAIS and SantaCoder, of remote code: GPT-2 with its Conv1D, whose output axis is the last one."""

from __future__ import annotations

from typing import Any

from tests.parity.remote_gpt_like import ENDS, HEADS, HIDDEN, LAYER, VOCAB, WIDTH
from tests.parity.remote_llama_like import code
from tests.parity.remote_models import Remote, Shapes, prefixed, with_biases

# As the published 13653, no multiple of two: TensorRT-LLM pads it.
JAIS_MLP = 53
JAIS: dict[str, Any] = {
    "activation_function": "swiglu",
    "architectures": ["JAISLMHeadModel"],
    "attn_pdrop": 0.0,
    "auto_map": code("jais", "JAISConfig", "JAISLMHeadModel")
    | {"AutoModel": "modeling_jais.JAISModel"},
    "bos_token_id": 0,
    "embd_pdrop": 0.0,
    "eos_token_id": 0,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "jais",
    "n_embd": HIDDEN,
    "n_head": HEADS,
    "n_inner": JAIS_MLP,
    "n_layer": 2,
    "n_positions": 128,
    "pad_token_id": 0,
    "position_embedding_type": "alibi",
    "reorder_and_upcast_attn": False,
    "resid_pdrop": 0.0,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "torch_dtype": "float32",
    "transformers_version": "4.28.1",
    "use_cache": True,
    "vocab_size": VOCAB,
}
JAIS_13B = {
    "embeddings_scale": 14.6,
    "scale_qk_dot_by_d": True,
    "width_scale": 0.11100000000000002,
}
JAIS_FAMILY = {
    "alibi_scaling": None,
    "mup_embeddings_scale": 9.1705785388303,
    "mup_output_alpha": 2.22,
    "mup_scale_qk_dot_by_d": True,
    "mup_width_scale": 0.16666666666666666,
    "n_inner": 52,
}


def jais_layer(width: int) -> Shapes:
    """A layer of the JAIS models."""
    conv = {
        "attn.c_attn": (HIDDEN, 3 * HIDDEN),
        "attn.c_proj": (HIDDEN, HIDDEN),
        "mlp.c_fc": (HIDDEN, width),
        "mlp.c_fc2": (HIDDEN, width),
        "mlp.c_proj": (width, HIDDEN),
        "ln_1": (HIDDEN,),
        "ln_2": (HIDDEN,),
    }
    return prefixed(LAYER, with_biases(conv, outputs_last=True))


JAIS_OUTER: Shapes = {
    **ENDS,
    "transformer.ln_f.bias": (HIDDEN,),
    "transformer.relative_pe.slopes": (HEADS, 1),
}

SANTACODER: dict[str, Any] = {
    "activation_function": "gelu_fast",
    "architectures": ["GPT2LMHeadCustomModel"],
    "attention_head_type": "multiquery",
    "attn_pdrop": 0.1,
    "auto_map": {
        "AutoConfig": "configuration_gpt2_mq.GPT2CustomConfig",
        "AutoModelForCausalLM": "modeling_gpt2_mq.GPT2LMHeadCustomModel",
    },
    "bos_token_id": 0,
    "embd_pdrop": 0.1,
    "eos_token_id": 0,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_embd": HIDDEN,
    "n_head": HEADS,
    "n_inner": 52,
    "n_layer": 2,
    "n_positions": 32,
    "reorder_and_upcast_attn": False,
    "resid_pdrop": 0.1,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "torch_dtype": "float32",
    "transformers_version": "4.25.1",
    "use_cache": True,
    "vocab_size": VOCAB,
}
SANTACODER_LAYER: Shapes = prefixed(
    "transformer.h.{n}.",
    with_biases(
        {
            "ln_1": (HIDDEN,),
            "attn.q_attn": (HIDDEN, HIDDEN),
            "attn.kv_attn": (HIDDEN, 2 * WIDTH),
            "attn.c_proj": (HIDDEN, HIDDEN),
            "ln_2": (HIDDEN,),
            "mlp.c_fc": (HIDDEN, 52),
            "mlp.c_proj": (52, HIDDEN),
        },
        outputs_last=True,
    ),
)

CONV1D: dict[str, Remote] = {
    # core42/jais-13b, and inceptionai/jais-family-590m
    "jais": Remote(
        "float32", JAIS | JAIS_13B, JAIS_OUTER, (jais_layer(JAIS_MLP),) * 2, ("slopes",)
    ),
    "jais-family": Remote(
        "bfloat16",
        JAIS | JAIS_FAMILY | {"torch_dtype": "bfloat16"},
        JAIS_OUTER,
        (jais_layer(52),) * 2,
        ("slopes",),
    ),
    # bigcode/santacoder
    "santacoder": Remote(
        "float32",
        SANTACODER,
        {
            "transformer.wte.weight": (VOCAB, HIDDEN),
            "transformer.wpe.weight": (32, HIDDEN),
            **with_biases({"transformer.ln_f": (HIDDEN,)}),
        },
        (SANTACODER_LAYER,) * 2,
    ),
}
