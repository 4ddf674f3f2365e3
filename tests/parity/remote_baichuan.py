"""The four Baichuan models, of remote code: rope at 7B, alibi at 13B.

Baichuan 2 normalises the rows of its output head before use.
"""

from __future__ import annotations

from typing import Any

from tests.parity.remote_llama_like import (
    COMMON,
    FREQUENCIES,
    HIDDEN,
    MLP,
    NORMS,
    OUTER,
    code,
    gated,
)
from tests.parity.remote_models import Remote, Shapes, prefixed

PACKED: Shapes = {
    "self_attn.W_pack.weight": (3 * HIDDEN, HIDDEN),
    "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
}


def baichuan(config: dict[str, Any], inner: Shapes) -> Remote:
    """One of the four Baichuan models: names are the same, except for the stored frequencies."""
    layer = prefixed("model.layers.{n}.", {**PACKED, **gated(MLP), **NORMS, **inner})
    base = COMMON | {"model_type": "baichuan", "pad_token_id": 0, "torch_dtype": "bfloat16"}
    base |= {"tokenizer_class": "BaichuanTokenizer", "transformers_version": "4.29.2"}
    return Remote("bfloat16", base | config, OUTER, (layer,) * 3, ("inv_freq",))


BAICHUAN_CODE = code("baichuan", "BaichuanConfig", "BaichuanForCausalLM")
ALIBI = {
    "architectures": ["BaichuanForCausalLM"],
    "auto_map": BAICHUAN_CODE,
    "model_max_length": 128,
    "num_attention_heads": 6,
    "_from_model_config": True,
    "gradient_checkpointing": False,
}

BAICHUAN: dict[str, Remote] = {
    # baichuan-inc/Baichuan-7B, Baichuan-13B-Base, Baichuan2-7B-Chat, Baichuan2-13B-Chat
    "baichuan-7b": baichuan(
        {
            "architectures": ["BaiChuanForCausalLM"],
            "auto_map": {
                "AutoConfig": "configuration_baichuan.BaiChuanConfig",
                "AutoModelForCausalLM": "modeling_baichuan.BaiChuanForCausalLM",
            },
            "max_position_embeddings": 128,
        },
        FREQUENCIES,
    ),
    "baichuan-13b": baichuan(ALIBI, {}),
    "baichuan2": baichuan(
        {
            "architectures": ["BaichuanForCausalLM"],
            "auto_map": BAICHUAN_CODE,
            "max_position_embeddings": 128,
            "model_max_length": 128,
            "_from_model_config": True,
        },
        FREQUENCIES,
    ),
    "baichuan2-13b": baichuan(ALIBI | {"z_loss_weight": 0}, {}),
}
