"""BaichuanForCausalLM: as LLaMA, the models of 13B with ALiBi instead of rotary positions.

Read: TensorRT-LLM 1.x `models/baichuan/config.py`, `models/baichuan/model.py`; the published
`modeling_baichuan.py`. The head of Baichuan 2 is normalised already in the checkpoint.
"""

from __future__ import annotations

from pipeline.graph.architectures.shared import attention, norm, rotary, sizes, whole
from pipeline.graph.description import Alibi, Decoder, Layer, Mlp
from pipeline.graph.keys import Keys

ARCHITECTURES = ("BaichuanForCausalLM", "BaiChuanForCausalLM")

_VERSIONS = ("v1_7b", "v1_13b", "v2_7b", "v2_13b")


def read(keys: Keys) -> Decoder:
    """The decoder of a Baichuan checkpoint."""
    of, version = sizes(keys), keys.choice("model_version", _VERSIONS)
    keys.neutral("qk_layernorm", False)
    keys.neutral("rotary_embedding_dim", of.head_size)
    keys.neutral("rotary_scaling")
    if version.endswith("13b"):
        keys.neutral("position_embedding_type", "alibi")
        one = attention(of, alibi=Alibi())
    else:
        keys.neutral("position_embedding_type", "rope_gpt_neox")
        one = attention(of, rotary=rotary(keys, of))
    mlp = Mlp("mlp", of.intermediate_size, keys.choice("hidden_act", ("silu",)), "apart")
    layers = (Layer(one, mlp),) * of.num_hidden_layers
    return Decoder(**whole(keys, of, layers, norm(keys, "rms")))
