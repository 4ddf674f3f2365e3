"""MPTForCausalLM: ALiBi, clamped projections, norms without bias.

Read: TensorRT-LLM 1.x `models/mpt/model.py`; transformers 5.24 `modeling_mpt.py` (exact `gelu`).
Its model forgets `alibi_bias_max` and takes 8; TensorRT-LLM does not.
"""

from __future__ import annotations

from pipeline.graph.architectures.shared import ANY_LENGTH, attention, norm, sizes, whole
from pipeline.graph.description import Alibi, Decoder, Layer, Mlp
from pipeline.graph.keys import Keys

ARCHITECTURES = ("MPTForCausalLM",)


def read(keys: Keys) -> Decoder:
    """The decoder of an MPT checkpoint."""
    of = sizes(keys, ANY_LENGTH)
    keys.neutral("qk_layernorm", False)
    keys.neutral("position_embedding_type", "alibi")
    keys.neutral("hidden_act", "gelu")
    keys.neutral("bias", False)
    keys.ignore("rotary_embedding_dim")  # nothing is rotated
    clip = keys.limit("clip_qkv")
    alibi = Alibi(max_bias=keys.positive("alibi_bias_max", 8))
    layer = Layer(
        attention(of, alibi=alibi, clip=clip),
        Mlp("mlp", of.intermediate_size, "gelu", "none"),
    )
    return Decoder(**whole(keys, of, (layer,) * of.num_hidden_layers, norm(keys, "layer")))
