"""CohereForCausalLM: Command R and Aya. Attention and MLP read one norm, side by side.

Read: TensorRT-LLM 1.x `models/commandr/config.py`, `models/commandr/model.py`; transformers 5
`modeling_cohere.py` (norms without bias, those of heads too; interleaved rotary positions).
"""

from __future__ import annotations

from pipeline.graph.architectures.shared import (
    PLAIN_ACTIVATIONS,
    attention,
    norm,
    rotary,
    sizes,
    whole,
)
from pipeline.graph.description import Decoder, Layer, Mlp
from pipeline.graph.keys import Keys

ARCHITECTURES = ("CohereForCausalLM",)


def read(keys: Keys) -> Decoder:
    """The decoder of a Cohere checkpoint."""
    of, layer_norm = sizes(keys), norm(keys, "layer")
    keys.neutral("position_embedding_type", "rope_gptj")
    keys.neutral("rotary_embedding_dim", of.head_size)
    keys.neutral("rotary_scaling")
    keys.ignore("attn_bias")  # said by the tensors
    one = attention(
        of,
        rotary=rotary(keys, of, interleaved=True),
        head_norm=layer_norm if keys.flag("qk_layernorm") else None,
    )
    mlp = Mlp("mlp", of.intermediate_size, keys.choice("hidden_act", PLAIN_ACTIVATIONS), "apart")
    layer = Layer(one, mlp, mlp_norm="input_layernorm", parallel=True)
    return Decoder(
        **whole(keys, of, (layer,) * of.num_hidden_layers, layer_norm),
        logits_multiplier=keys.number("output_multiplier_scale"),
    )
