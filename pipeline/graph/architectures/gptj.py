"""GPTJForCausalLM: attention and MLP read one norm, side by side; interleaved rotary positions.

Read: TensorRT-LLM 1.x `models/gptj/config.py`, `models/gptj/model.py`; transformers 5.24
`modeling_gptj.py`. Every `gelu` is the tanh form: TensorRT-LLM's converter writes `gelu` for the
`gelu_new` of the source, as the family does.
"""

from __future__ import annotations

from pipeline.graph.architectures.shared import attention, norm, rotary, sizes, whole
from pipeline.graph.description import Decoder, Layer, Mlp
from pipeline.graph.keys import Keys

ARCHITECTURES = ("GPTJForCausalLM",)

ACTIVATIONS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh")


def read(keys: Keys) -> Decoder:
    """The decoder of a GPT-J checkpoint."""
    of = sizes(keys)
    keys.neutral("qk_layernorm", False)
    keys.neutral("position_embedding_type", "rope_gptj")
    keys.neutral("rotary_scaling")
    dim = keys.count("rotary_dim")
    keys.neutral("rotary_embedding_dim", of.head_size, dim)
    keys.choice("hidden_act", ACTIVATIONS)
    layer = Layer(
        attention(of, rotary=rotary(keys, of, interleaved=True, dim=dim)),
        Mlp("mlp", of.intermediate_size, "gelu_new", "none"),
        mlp_norm="input_layernorm",
        parallel=True,
    )
    return Decoder(**whole(keys, of, (layer,) * of.num_hidden_layers, norm(keys, "layer")))
