"""FalconForCausalLM: 7B, 40B and 11B with attention and MLP side by side, RW one after the other.

Read: TensorRT-LLM 1.x `models/falcon/config.py`, `models/falcon/model.py`, `layers/attention.py`
(`alibi_with_scale`: the bias is divided by `sqrt(head_size)` with the logits); transformers 5.24
`modeling_falcon.py` (`build_alibi_tensor` rounds to bfloat16 in any dtype, as the code of the first
releases does; TensorRT-LLM does not. With eager attention transformers adds the bias twice: what
counts is its `sdpa` attention, its default).
"""

from __future__ import annotations

from typing import Any

from pipeline.graph.architectures.shared import Sizes, attention, norm, rotary, sizes, whole
from pipeline.graph.description import Alibi, Decoder, Layer, Mlp
from pipeline.graph.keys import Keys

ARCHITECTURES = ("FalconForCausalLM",)

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh")

_ROTARY, _ALIBI = "rope_gpt_neox", "alibi_with_scale"


def read(keys: Keys) -> Decoder:
    """The decoder of a Falcon checkpoint."""
    of = sizes(keys)
    keys.neutral("qk_layernorm", False)
    keys.ignore("bias")  # said by the tensors
    layer = Layer(
        attention(of, **_positions(keys, of)),
        Mlp("mlp", of.intermediate_size, keys.choice("hidden_act", ACTIVATIONS), "none"),
        **_norms(keys),
    )
    return Decoder(**whole(keys, of, (layer,) * of.num_hidden_layers, norm(keys, "layer")))


def _positions(keys: Keys, of: Sizes) -> dict[str, Any]:
    if keys.choice("position_embedding_type", (_ROTARY, _ALIBI)) == _ROTARY:
        keys.neutral("rotary_embedding_dim", of.head_size)
        return {"rotary": rotary(keys, of)}
    keys.ignore("rotary_base", "rotary_scaling", "rotary_embedding_dim")  # nothing is rotated
    return {"alibi": Alibi(factor=of.head_size**-0.5, in_bfloat16=True)}


def _norms(keys: Keys) -> dict[str, Any]:
    """Which norms a layer has, and whether attention and MLP stand side by side.

    `num_ln_in_parallel_attn` is 2 where a model of the new architecture does not say it.
    """
    new = keys.choice("new_decoder_architecture", (False, True), False)
    parallel = keys.choice("parallel_attention", (False, True), False)
    if new and not parallel:
        keys.faults.append("`parallel_attention` is false in the new decoder architecture")
    count = keys.choice("num_ln_in_parallel_attn", (1, 2), 2 if new else 1)
    if not new and count == 2:
        keys.faults.append("`num_ln_in_parallel_attn` is 2 without the new decoder architecture")
    if not parallel:
        return {}
    return {"parallel": True, "mlp_norm": "mlp_layernorm" if count == 2 else "input_layernorm"}
