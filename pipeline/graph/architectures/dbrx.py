"""DbrxForCausalLM: layer norms without bias, clipped projections, fine-grained experts.

Read: TensorRT-LLM 1.x `models/dbrx/config.py`, `models/dbrx/model.py`; transformers 5
`modeling_dbrx.py`.
"""

from __future__ import annotations

from pipeline.graph.architectures.shared import attention, experts, norm, rotary, sizes, whole
from pipeline.graph.description import Decoder, Layer
from pipeline.graph.keys import Keys

ARCHITECTURES = ("DbrxForCausalLM",)


def read(keys: Keys) -> Decoder:
    """The decoder of a DBRX checkpoint."""
    of = sizes(keys)
    keys.neutral("qk_layernorm", False)
    keys.neutral("position_embedding_type", "rope_gpt_neox")
    keys.neutral("rotary_embedding_dim", of.head_size)
    keys.neutral("bias", False)
    one = attention(of, rotary=rotary(keys, of), clip=keys.limit("clip_qkv"))
    layer = Layer(one, experts(keys, of.intermediate_size))
    layers = (layer,) * of.num_hidden_layers
    return Decoder(**whole(keys, of, layers, norm(keys, "layer")))
