"""PhiForCausalLM: Phi-1, Phi-1.5 and Phi-2. Attention and MLP read one norm, side by side.

Read: TensorRT-LLM 1.x `models/phi/config.py`, `models/phi/model.py`; transformers 5.24
`modeling_phi.py`.
"""

from __future__ import annotations

from pipeline.graph.architectures.shared import attention, norm, rotary, sizes, whole
from pipeline.graph.description import Decoder, Layer, Mlp
from pipeline.graph.keys import Keys

ARCHITECTURES = ("PhiForCausalLM",)

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")


def read(keys: Keys) -> Decoder:
    """The decoder of a Phi checkpoint."""
    of = sizes(keys)
    keys.neutral("qk_layernorm", False)
    keys.neutral("position_embedding_type", "rope_gpt_neox")
    dim = int(of.head_size * keys.number("rotary_pct"))
    keys.neutral("rotary_embedding_dim", of.head_size, dim)
    keys.ignore("partial_rotary_factor")  # nothing reads it beside `rotary_pct`
    layer = Layer(
        attention(of, rotary=rotary(keys, of, dim=dim)),
        Mlp("mlp", of.intermediate_size, keys.choice("hidden_act", ACTIVATIONS), "none"),
        mlp_norm="input_layernorm",
        parallel=True,
    )
    return Decoder(**whole(keys, of, (layer,) * of.num_hidden_layers, norm(keys, "layer")))
