"""QWenForCausalLM: Qwen 1 to 3, dense and with experts, told apart by `qwen_type`.

Read: TensorRT-LLM 1.x `models/qwen/config.py`, `models/qwen/model.py`; transformers 5
`modeling_qwen2.py`, `modeling_qwen3.py`, `modeling_qwen3_moe.py` (norms of heads have the model's
epsilon there, which TensorRT-LLM's class has not); `modeling_qwen.py` of Qwen/Qwen-7B.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.graph.architectures.shared import (
    PLAIN_ACTIVATIONS,
    Sizes,
    attention,
    experts,
    has_experts,
    norm,
    rotary,
    sizes,
    whole,
    windows,
)
from pipeline.graph.description import Decoder, Experts, Layer, Mlp
from pipeline.graph.keys import Keys

ARCHITECTURES = (
    *("QWenLMHeadModel", "QWenForCausalLM", "Qwen2ForCausalLM", "Qwen2MoeForCausalLM"),
    *("Qwen3ForCausalLM", "Qwen3MoeForCausalLM"),
)

_TYPES = ("qwen", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe")
_HEAD_NORMS = ("qwen3", "qwen3_moe")


def read(keys: Keys) -> Decoder:
    """The decoder of a Qwen checkpoint."""
    of, kind = sizes(keys), keys.choice("qwen_type", _TYPES)
    keys.neutral("qk_layernorm", False)  # the class goes by `qwen_type`
    keys.neutral("position_embedding_type", "rope_gpt_neox")
    keys.neutral("rotary_embedding_dim", of.head_size)
    keys.neutral("num_labels", 1)
    keys.neutral("mlp_only_layers", [])
    keys.neutral("decoder_sparse_step", 1)
    keys.ignore("attn_bias", "mlp_bias")  # said by the tensors
    rms = norm(keys, "rms")
    layers = tuple(
        Layer(
            attention(
                of,
                rotary=rotary(keys, of),
                window=window,
                head_norm=rms if kind in _HEAD_NORMS else None,
            ),
            _mlp(keys, of, kind),
        )
        for window in windows(keys, of.num_hidden_layers)
    )
    return _limited(keys, kind, Decoder(**whole(keys, of, layers, rms)))


def _mlp(keys: Keys, of: Sizes, kind: str) -> Mlp | Experts:
    shared = "moe_shared_expert_intermediate_size"
    if has_experts(keys):
        keys.neutral(shared, keys.object("moe").get("shared_expert_intermediate_size", 0))
        return experts(keys, keys.count("moe_intermediate_size"))
    keys.neutral(shared, 0)
    keys.neutral("moe_intermediate_size", 0)
    # Qwen 1 counts both halves of its MLP.
    width = of.intermediate_size // 2 if kind == "qwen" else of.intermediate_size
    return Mlp("mlp", width, keys.choice("hidden_act", PLAIN_ACTIVATIONS), "apart")


def _limited(keys: Keys, kind: str, decoder: Decoder) -> Decoder:
    """Qwen 1 has methods of its own beyond `seq_length` tokens, which no table says."""
    longest = keys.count("seq_length", 8192)
    if not keys.flag("use_logn_attn") and kind != "qwen":
        return decoder
    if longest >= decoder.longest_tokens:
        return decoder
    because = (
        f"beyond `seq_length`, {longest}, Qwen 1 scales queries and rotary positions by length"
    )
    return replace(decoder, longest_tokens=longest, longest_because=because)
