"""ChatGLMForCausalLM: ChatGLM 2 and 3, GLM-4-9B. Half of each head is rotated, in pairs (2i, 2i+1).

Read: TensorRT-LLM 1.x `models/chatglm/config.py`, `models/chatglm/model.py`; the published
`modeling_chatglm.py`.
"""

from __future__ import annotations

from pipeline.graph.architectures.shared import attention, norm, rotary, sizes, whole
from pipeline.graph.description import Decoder, Layer, Mlp
from pipeline.graph.keys import Keys

ARCHITECTURES = ("ChatGLMModel", "ChatGLMForConditionalGeneration", "ChatGLMForCausalLM")


def read(keys: Keys) -> Decoder:
    """The decoder of a ChatGLM checkpoint."""
    of = sizes(keys)
    keys.choice("chatglm_version", ("chatglm2", "chatglm3", "glm4"))
    keys.neutral("qk_layernorm", False)
    keys.neutral("position_embedding_type", "rope_gptj")
    keys.neutral("rotary_embedding_dim", of.head_size)  # the class goes by `rotary_pct`
    keys.neutral("apply_query_key_layer_scaling", False)
    keys.neutral("apply_residual_connection_post_layernorm", False)
    keys.neutral("rotary_scaling")
    keys.neutral("add_bias_linear", False)  # no model has them, nor has the inventory
    keys.ignore("add_qkv_bias")  # said by the tensors
    kind = norm(keys, "rms" if keys.flag("rmsnorm", True) else "layer")
    rotated = int(of.head_size * keys.number("rotary_pct", 0.5))
    one = attention(of, rotary=rotary(keys, of, interleaved=True, dim=rotated))
    keys.choice("hidden_act", ("swiglu",))
    layer = Layer(one, Mlp("mlp", of.intermediate_size, "silu", "fused"))
    return Decoder(**whole(keys, of, (layer,) * of.num_hidden_layers, kind))
