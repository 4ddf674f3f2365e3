"""ChatGLM 2 and 3 and GLM-4, of remote code, which compute what Glm of transformers computes.

Sources of the published code, by model on the Hugging Face Hub: THUDM/chatglm2-6b, chatglm3-6b,
chatglm3-6b-32k and glm-4-9b-chat (`modeling_chatglm.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.parity.as_published import read_json
from tests.parity.equivalents_llama import renamed
from tests.parity.exchanged import build, plain, read_tensors
from tests.parity.references import Original

NAMES = {
    "transformer.embedding.word_embeddings": "model.embed_tokens",
    "transformer.encoder.final_layernorm": "model.norm",
    "transformer.encoder.layers.": "model.layers.",
    "transformer.output_layer": "lm_head",
    "self_attention.dense": "self_attn.o_proj",
    "mlp.dense_h_to_4h": "mlp.gate_up_proj",
    "mlp.dense_4h_to_h": "mlp.down_proj",
}
"""Gate and up lie one after the other in `dense_h_to_4h`, as in Glm's `gate_up_proj`."""


def chatglm(folder: Path) -> Original:
    """Pairs of neighbours rotate, in the first half of each head."""
    config = read_json(folder / "config.json")
    width, groups = config["kv_channels"], config["multi_query_group_num"]
    sizes = [config["num_attention_heads"] * width, groups * width, groups * width]
    made: dict[str, Any] = {}
    for name, tensor in read_tensors(folder).items():
        new = renamed(name, NAMES)
        if "query_key_value" not in new:
            made[new] = tensor
            continue
        for part, cut in zip("qkv", tensor.split(sizes), strict=True):
            made[new.replace("self_attention.query_key_value", f"self_attn.{part}_proj")] = cut
    words = "transformers GlmForCausalLM, query_key_value cut, renamed"
    return Original(plain(build("Glm", glm_config(config), made)), words)


def glm_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of GlmConfig. `rope_ratio` multiplies the base, from ChatGLM 3 on."""
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0 * config.get("rope_ratio", 1),
        "partial_rotary_factor": 0.5,
    }
    return {
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["ffn_hidden_size"],
        "num_hidden_layers": config["num_layers"],
        "num_attention_heads": config["num_attention_heads"],
        "num_key_value_heads": config["multi_query_group_num"],
        "head_dim": config["kv_channels"],
        "vocab_size": config["padded_vocab_size"],
        "rms_norm_eps": config["layernorm_epsilon"],
        "max_position_embeddings": config["seq_length"],
        "rope_parameters": rope,
        "pad_token_id": None,
    }
