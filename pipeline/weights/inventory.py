"""What the TensorRT-LLM 1.2 loader requires of a rank file, from config.json alone.

A second statement beside the weight rules, written from the other side: the parameters of
TensorRT-LLM's module tree, and the words by which its own loader finds them in a Hugging Face
checkpoint. The conversion is checked against both, so a fault in the rules cannot confirm itself,
and nothing is left without a value: the builder would fill it with random numbers, silently.

Sources: TensorRT-LLM 1.2 `models/llama/model.py`, `layers/attention.py`, `layers/mlp.py` (shapes),
`models/model_weights_loader.py` (`tllm_to_externel_key_dict`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pipeline.artifact import Json
from pipeline.weights.parallel import Parallelism
from pipeline.weights.rules import Place, fill
from pipeline.weights.sizes import evaluate_shape

Words = Mapping[str, tuple[str, ...]]
"""A word of a target name -> the word of the source name, or of the parts to be joined."""

LOADER_WORDS: Words = MappingProxyType(
    {
        "transformer": ("model",),
        "vocab_embedding": ("embed_tokens",),
        "ln_f": ("norm",),
        "attention": ("self_attn",),
        "qkv": ("q_proj", "k_proj", "v_proj"),
        "dense": ("o_proj",),
        "fc": ("gate_proj",),
        "gate": ("up_proj",),
        "proj": ("down_proj",),
        "post_layernorm": ("post_attention_layernorm",),
    }
)
"""The default words of the loader."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of one rank: its shape there by config name and `tp_size` (see `sizes`).

    `dtype` None: that of the config. `on` and `when` are as in weight rules.
    """

    name: str
    shape: tuple[str, ...]
    dtype: str | None = None
    on: Place | None = None
    when: str | None = None


_LAYER = "transformer.layers.{layer}"
_QUERIES = "num_attention_heads/tp_size*head_size"
# Rounded up: with fewer K/V heads than ranks, each rank has a whole one.
_QKV = f"{_QUERIES} + 2*ceil(num_key_value_heads, tp_size)*head_size"
_MLP = "intermediate_size/tp_size"

LLAMA_INVENTORY: tuple[Parameter, ...] = (
    Parameter("transformer.vocab_embedding.weight", ("vocab_size", "hidden_size"), on="first"),
    Parameter(f"{_LAYER}.input_layernorm.weight", ("hidden_size",)),
    Parameter(f"{_LAYER}.attention.qkv.weight", (_QKV, "hidden_size")),
    Parameter(f"{_LAYER}.attention.qkv.bias", (_QKV,), when="attn_bias"),
    Parameter(f"{_LAYER}.attention.dense.weight", ("hidden_size", _QUERIES)),
    Parameter(f"{_LAYER}.attention.dense.bias", ("hidden_size",), when="attn_bias"),
    Parameter(f"{_LAYER}.post_layernorm.weight", ("hidden_size",)),
    Parameter(f"{_LAYER}.mlp.fc.weight", (_MLP, "hidden_size")),
    Parameter(f"{_LAYER}.mlp.fc.bias", (_MLP,), when="mlp_bias"),
    Parameter(f"{_LAYER}.mlp.gate.weight", (_MLP, "hidden_size")),
    Parameter(f"{_LAYER}.mlp.gate.bias", (_MLP,), when="mlp_bias"),
    Parameter(f"{_LAYER}.mlp.proj.weight", ("hidden_size", _MLP)),
    Parameter(f"{_LAYER}.mlp.proj.bias", ("hidden_size",), when="mlp_bias"),
    Parameter("transformer.ln_f.weight", ("hidden_size",), on="last"),
    Parameter("lm_head.weight", ("ceil(vocab_size, tp_size)", "hidden_size"), on="last"),
)
"""Parameters of LLaMAForCausalLM without experts."""


def expected_inventory(
    parameters: Sequence[Parameter], config: Mapping[str, Json], rank: int
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Target name -> (dtype, shape) of all that `rank<N>.safetensors` must hold.

    `config` is a target config.json; layers count from 0 in every pp rank. Raises ValueError where
    tp_size does not divide what it must.
    """
    mapping = config["mapping"]
    parallelism = Parallelism(mapping["tp_size"], mapping["pp_size"])
    pp_rank = rank // parallelism.tp_size
    sizes = {**config, "tp_size": parallelism.tp_size}
    num_layers = len(parallelism.layers(pp_rank, config["num_hidden_layers"]))
    places = {"first": pp_rank == 0, "last": pp_rank == parallelism.pp_size - 1}
    inventory: dict[str, tuple[str, tuple[int, ...]]] = {}
    for parameter in parameters:
        if parameter.when is not None and not config[parameter.when]:
            continue
        entry = (parameter.dtype or config["dtype"], evaluate_shape(parameter.shape, sizes))
        if "{layer}" in parameter.name:
            inventory |= {fill(parameter.name, layer): entry for layer in range(num_layers)}
        elif parameter.on is None or places[parameter.on]:
            inventory[parameter.name] = entry
    return inventory


def loader_sources(target: str, first_layer: int, words: Words) -> tuple[str, ...]:
    """The source tensors that the loader would join for a target tensor, in order.

    `first_layer` is the model's number of the pp rank's layer 0.
    """
    names = [""]
    for word in target.split("."):
        new = (str(int(word) + first_layer),) if word.isdigit() else words.get(word, (word,))
        names = [f"{name}.{part}" if name else part for name in names for part in new]
    return tuple(names)
