"""The readers of the GPT-like classes: what of a config.json they take, and what they refuse."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from pipeline.errors import RecipeError
from pipeline.graph.architectures import bloom, falcon, gpt, gptj, gptneox, mpt, opt, phi
from pipeline.graph.architectures.shared import ANY_LENGTH
from pipeline.graph.config import read_decoder
from pipeline.graph.description import Alibi, Attention, Decoder, Layer, Mlp
from tests.families.fixtures import FIXTURES
from tests.weights.converting import plan

FALCONS = ("falcon-7b", "falcon-40b", "falcon-11b", "falcon-rw")
NAMES = (
    *("gpt2", "gptbigcode", "santacoder", "starcoder2", "nemotron", "jais", "jais-family"),
    *("gptj", "gptneox", "opt", "opt-350m", "bloom", "mpt", "mpt-gqa", *FALCONS, "phi"),
)
WITHOUT_END = ("BloomForCausalLM", "MPTForCausalLM")
"""ALiBi goes on for ever; TensorRT-LLM's converter writes no length."""
MODULES = (bloom, falcon, gpt, gptj, gptneox, mpt, opt, phi)


@cache
def config_of(name: str) -> dict[str, Any]:
    return dict(plan(FIXTURES / name, dtype="float32").config)


def decoder_of(name: str, **overrides: Any) -> Decoder:
    return read_decoder({**config_of(name), **overrides})


def parts_of(decoder: Decoder) -> tuple[Layer, Attention, Mlp]:
    layer = decoder.layers[-1]
    assert isinstance(layer.attention, Attention)
    assert isinstance(layer.mlp, Mlp)
    return layer, layer.attention, layer.mlp


def faults_of(name: str, **overrides: Any) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        decoder_of(name, **overrides)
    return caught.value.facts


def test_every_architecture_has_a_fixture() -> None:
    known = {architecture for module in MODULES for architecture in module.ARCHITECTURES}
    assert {config_of(name)["architecture"] for name in NAMES} == known


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_those_of_the_config(name: str) -> None:
    config, decoder = config_of(name), decoder_of(name)
    _, attention, mlp = parts_of(decoder)
    assert len(decoder.layers) == config["num_hidden_layers"]
    assert attention.num_attention_heads == config["num_attention_heads"]
    assert attention.num_key_value_heads == config["num_key_value_heads"]
    assert attention.head_size == config["head_size"]
    assert mlp.intermediate_size == config["intermediate_size"]
    assert decoder.longest_tokens == config["max_position_embeddings"]
    assert decoder.norm.kind == "layer"


@pytest.mark.parametrize("name", NAMES)
def test_a_key_that_nobody_knows_is_a_fault(name: str) -> None:
    assert faults_of(name, sinks=4) == ("`sinks` is not known",)


@pytest.mark.parametrize("name", NAMES)
def test_norms_of_queries_and_keys_are_a_fault(name: str) -> None:
    assert faults_of(name, qk_layernorm=True) == ("`qk_layernorm` is `True`; supported: `False`",)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["hidden_size", "max_position_embeddings", "num_hidden_layers"])
def test_a_missing_size_is_a_fault(name: str, key: str) -> None:
    if key == "max_position_embeddings" and config_of(name)["architecture"] in WITHOUT_END:
        assert decoder_of(name, max_position_embeddings=None).longest_tokens == ANY_LENGTH
    else:
        assert f"`{key}` is missing" in faults_of(name, **{key: None})


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("gpt2", "hidden_act"),
        ("gptj", "hidden_act"),
        ("gptj", "rotary_dim"),
        ("gptneox", "hidden_act"),
        ("gptneox", "rotary_pct"),
        ("gptneox", "rotary_emb_base"),
        ("opt", "hidden_act"),
        ("opt", "do_layer_norm_before"),
        ("falcon-7b", "hidden_act"),
        ("falcon-7b", "position_embedding_type"),
        ("phi", "hidden_act"),
        ("phi", "rotary_pct"),
    ],
)
def test_a_missing_key_is_a_fault(name: str, key: str) -> None:
    assert f"`{key}` is missing" in faults_of(name, **{key: None})


@pytest.mark.parametrize(
    ("name", "overrides", "fault"),
    [
        ("gpt2", {"apply_query_key_layer_scaling": True}, "`apply_query_key_layer_scaling` is"),
        ("gpt2", {"inner_layernorm": True}, "`inner_layernorm` is `True`"),
        ("gpt2", {"position_embedding_type": "rope_gptj"}, "`position_embedding_type` is"),
        ("gpt2", {"moe": {"num_experts": 8}}, "`moe` has experts"),
        ("gpt2", {"hidden_act": "geglu"}, "`hidden_act` is `geglu`"),
        ("gpt2", {"moe": [8]}, "`moe` is `[8]`; expected an object"),
        ("gpt2", {"mapping": 2}, "`mapping` is `2`; expected an object"),
        ("starcoder2", {"rotary_scaling": "linear"}, "`rotary_scaling` is `linear`; expected an"),
        ("gpt2", {"q_scaling": 0}, "`q_scaling` is `0`; expected a number above 0"),
        ("starcoder2", {"rotary_embedding_dim": 2}, "`rotary_embedding_dim` is `2`"),
        ("starcoder2", {"rotary_pct": 0.25}, "1 dims of 4 are rotated"),
        ("nemotron", {"rotary_pct": 0}, "0 dims of 8 are rotated"),
        ("gptj", {"rotary_dim": 12}, "12 dims of 8 are rotated"),
        ("gptj", {"hidden_act": "relu"}, "`hidden_act` is `relu`"),
        ("gptj", {"position_embedding_type": "rope_gpt_neox"}, "`position_embedding_type` is"),
        ("gptj", {"rotary_scaling": {"type": "linear", "factor": 2.0}}, "`rotary_scaling` is"),
        ("gptneox", {"rotary_base": 500.0}, "`rotary_base` is `500.0`; supported: `10000.0`"),
        ("gptneox", {"use_parallel_residual": False}, "`use_parallel_residual` is not known"),
        (
            "gptneox",
            {"rotary_pct": "half", "rotary_embedding_dim": 8},
            "`rotary_pct` is `half`; expected a number",
        ),
        ("opt", {"position_embedding_type": "alibi"}, "`position_embedding_type` is `alibi`"),
        ("opt", {"do_layer_norm_before": "no"}, "`do_layer_norm_before` is `no`"),
        ("bloom", {"hidden_act": "relu"}, "`hidden_act` is `relu`"),
        ("bloom", {"position_embedding_type": "alibi_with_scale"}, "`position_embedding_type` is"),
        ("mpt", {"hidden_act": "gelu_new"}, "`hidden_act` is `gelu_new`"),
        ("mpt", {"bias": True}, "`bias` is `True`; supported: `False`"),
        ("mpt", {"clip_qkv": -1.5}, "`clip_qkv` is `-1.5`; expected a number above 0"),
        ("mpt", {"alibi_bias_max": 0}, "`alibi_bias_max` is `0`; expected a number above 0"),
        ("falcon-7b", {"position_embedding_type": "alibi"}, "`position_embedding_type` is `alibi`"),
        ("falcon-7b", {"num_ln_in_parallel_attn": 2}, "`num_ln_in_parallel_attn` is 2 without"),
        ("falcon-40b", {"num_ln_in_parallel_attn": 3}, "`num_ln_in_parallel_attn` is `3`"),
        ("falcon-7b", {"parallel_attention": "yes"}, "`parallel_attention` is `yes`"),
        ("falcon-40b", {"parallel_attention": False}, "`parallel_attention` is false in the new"),
        ("phi", {"position_embedding_type": "alibi"}, "`position_embedding_type` is `alibi`"),
        ("phi", {"rotary_embedding_dim": 6}, "`rotary_embedding_dim` is `6`; supported: `8`, `4`"),
    ],
)
def test_what_cannot_be_honoured_is_a_fault(
    name: str, overrides: dict[str, Any], fault: str
) -> None:
    (found,) = faults_of(name, **overrides)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("name", "given", "computed"),
    [
        ("gpt2", "gelu", "gelu"),
        ("gptbigcode", "gelu_pytorch_tanh", "gelu_pytorch_tanh"),
        ("starcoder2", "gelu", "gelu_pytorch_tanh"),
        ("nemotron", "squared-relu", "squared-relu"),
        ("jais", "swiglu", "silu"),
        ("gptj", "gelu", "gelu_new"),
        ("gptneox", "gelu", "gelu"),
        ("gptneox", "gelu_new", "gelu_new"),
        ("opt", "gelu", "gelu"),
        ("bloom", "gelu", "gelu_pytorch_tanh"),
        ("mpt", "gelu", "gelu"),
        ("falcon-7b", "gelu", "gelu"),
        ("phi", "gelu_new", "gelu_new"),
    ],
)
def test_the_activation_is_that_of_the_model_as_trained(
    name: str, given: str, computed: str
) -> None:
    _, _, mlp = parts_of(decoder_of(name, hidden_act=given))
    assert mlp.activation == computed
    assert mlp.gate == ("apart" if given == "swiglu" else "none")


@pytest.mark.parametrize(
    ("name", "overrides", "path", "expected"),
    [
        ("gpt2", {"q_scaling": 4.0}, "scale", 4**-0.5 / 4),
        ("jais", {}, "scale", 1 / 4),
        ("jais", {}, "alibi", Alibi()),
        ("gpt2", {"attention_windows": [None, 5, 7]}, "window", 7),
        ("starcoder2", {"rotary_base": 500.0}, "rotary.base", 500.0),
        ("starcoder2", {"rotary_pct": 0.5}, "rotary.dim", 2),
        ("starcoder2", {"rotary_scaling": {"type": "linear"}}, "rotary.scaling.type", "linear"),
        ("nemotron", {}, "rotary.dim", 4),
        ("gptj", {}, "rotary.dim", 4),
        ("gptj", {"rotary_dim": 6}, "rotary.dim", 6),
        ("gptj", {}, "rotary.interleaved", True),
        ("gptneox", {"rotary_emb_base": 7.0, "rotary_base": 7.0}, "rotary.base", 7.0),
        ("gptneox", {"rotary_emb_base": 7.0, "rotary_base": None}, "rotary.base", 7.0),
        ("gptneox", {"rotary_pct": 1.0, "rotary_embedding_dim": 8}, "rotary.dim", 8),
        ("gptneox", {}, "rotary.interleaved", False),
        ("bloom", {}, "alibi", Alibi()),
        ("mpt", {"clip_qkv": 2.5}, "clip", 2.5),
        ("mpt", {"clip_qkv": None}, "clip", None),
        ("mpt", {"alibi_bias_max": 4}, "alibi", Alibi(max_bias=4.0)),
        ("falcon-7b", {"rotary_base": 500.0}, "rotary.base", 500.0),
        ("falcon-rw", {}, "alibi", Alibi(factor=0.5, in_bfloat16=True)),
        ("phi", {"rotary_pct": 1.0, "rotary_embedding_dim": 8}, "rotary.dim", 8),
        ("phi", {"rotary_base": 500.0}, "rotary.base", 500.0),
    ],
)
def test_what_changes_the_mathematics_reaches_attention(
    name: str, overrides: dict[str, Any], path: str, expected: object
) -> None:
    found: Any = parts_of(decoder_of(name, **overrides))[1]
    for step in path.split("."):
        found = found[step] if isinstance(found, dict) else getattr(found, step)
    assert found == expected


def test_what_changes_the_mathematics_reaches_the_decoder() -> None:
    assert decoder_of("jais", embedding_scale=3.0).embedding_multiplier == 3.0
    assert decoder_of("phi", norm_epsilon=0.25).norm.epsilon == 0.25
    assert decoder_of("bloom").embedding_norm == "transformer.ln_embed"


@pytest.mark.parametrize("name", NAMES)
def test_learned_positions_are_those_that_the_checkpoint_stores(name: str) -> None:
    stored = {shape.name for shape in plan(FIXTURES / name).ranks[0].tensors}
    learned = "transformer.position_embedding.weight" in stored
    decoder = decoder_of(name)
    assert decoder.learned_positions == learned
    _, attention, _ = parts_of(decoder)
    assert [learned, attention.rotary is not None, attention.alibi is not None].count(True) == 1


@pytest.mark.parametrize(
    ("name", "parallel", "mlp_norm"),
    [
        ("gpt2", False, "post_layernorm"),
        ("gptj", True, "input_layernorm"),
        ("gptneox", True, "post_attention_layernorm"),
        ("opt", False, "post_layernorm"),
        ("bloom", False, "post_layernorm"),
        ("mpt", False, "post_layernorm"),
        ("falcon-7b", True, "input_layernorm"),
        ("falcon-40b", True, "mlp_layernorm"),
        ("falcon-11b", True, "input_layernorm"),
        ("falcon-rw", False, "post_layernorm"),
        ("phi", True, "input_layernorm"),
    ],
)
def test_the_norm_of_the_mlp(name: str, parallel: bool, mlp_norm: str) -> None:
    layer, _, _ = parts_of(decoder_of(name))
    assert (layer.parallel, layer.mlp_norm) == (parallel, mlp_norm)
    assert layer.attention_norm == "input_layernorm"


def test_a_falcon_of_the_new_architecture_has_two_norms_where_it_says_nothing() -> None:
    layer, _, _ = parts_of(decoder_of("falcon-11b", num_ln_in_parallel_attn=None))
    assert layer.mlp_norm == "mlp_layernorm"


def test_norms_of_opt_350m_come_after_the_sums() -> None:
    decoder = decoder_of("opt-350m")
    assert parts_of(decoder)[0].norm_after_residual
    assert decoder.final_norm is None
    assert not parts_of(decoder_of("opt"))[0].norm_after_residual
    assert decoder_of("opt").final_norm == "transformer.ln_f"
