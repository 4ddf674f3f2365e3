"""BloomForCausalLM: ALiBi, and a norm of the embedding.

Read: TensorRT-LLM 1.x `models/bloom/model.py`; transformers 5.24 `modeling_bloom.py` (BloomGelu is
the tanh form of `gelu`, the only activation).
"""

from __future__ import annotations

from pipeline.graph.architectures.shared import ANY_LENGTH, attention, norm, sizes, whole
from pipeline.graph.description import Alibi, Decoder, Layer, Mlp
from pipeline.graph.keys import Keys

ARCHITECTURES = ("BloomForCausalLM",)


def read(keys: Keys) -> Decoder:
    """The decoder of a BLOOM checkpoint."""
    of = sizes(keys, ANY_LENGTH)
    keys.neutral("qk_layernorm", False)
    keys.neutral("position_embedding_type", "alibi")
    keys.neutral("hidden_act", "gelu")
    keys.ignore("rotary_embedding_dim")  # nothing is rotated
    mlp = Mlp("mlp", of.intermediate_size, "gelu_pytorch_tanh", "none")
    layer = Layer(attention(of, alibi=Alibi()), mlp)
    return Decoder(
        **whole(keys, of, (layer,) * of.num_hidden_layers, norm(keys, "layer")),
        embedding_norm="transformer.ln_embed",
    )
