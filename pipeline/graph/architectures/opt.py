"""OPTForCausalLM: learned positions; norms before attention and MLP, or after the sums (350M).

Read: TensorRT-LLM 1.x `models/opt/model.py`; transformers 5.24 `modeling_opt.py`.
"""

from __future__ import annotations

from pipeline.graph.architectures.shared import attention, norm, sizes, whole
from pipeline.graph.description import Decoder, Layer, Mlp
from pipeline.graph.keys import Keys

ARCHITECTURES = ("OPTForCausalLM",)

ACTIVATIONS = ("relu", "gelu", "gelu_new", "gelu_pytorch_tanh")


def read(keys: Keys) -> Decoder:
    """The decoder of an OPT checkpoint."""
    of = sizes(keys)
    keys.neutral("qk_layernorm", False)
    keys.neutral("position_embedding_type", "learned_absolute")
    keys.ignore("rotary_embedding_dim")  # nothing is rotated
    before = keys.choice("do_layer_norm_before", (True, False))
    layer = Layer(
        attention(of),
        Mlp("mlp", of.intermediate_size, keys.choice("hidden_act", ACTIVATIONS), "none"),
        norm_after_residual=not before,
    )
    return Decoder(
        **whole(keys, of, (layer,) * of.num_hidden_layers, norm(keys, "layer")),
        learned_positions=True,
        final_norm="transformer.ln_f" if before else None,
    )
