"""What the decoder graph takes of a checkpoint's config.json, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from pipeline.errors import RecipeError
from pipeline.families import all_families
from pipeline.graph.config import graph_problems, read_decoder, readers
from pipeline.graph.description import Attention, Experts, Mlp
from pipeline.graph.expert_description import Routing
from tests.tiny_decoder import Shape


def facts_of(**overrides: Any) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        read_decoder({**Shape().config(), **overrides})
    return caught.value.facts


def test_sizes_are_of_the_whole_model() -> None:
    decoder = read_decoder(Shape().config(tp_size=2, pp_size=3))
    assert (decoder.vocab_size, decoder.hidden_size, len(decoder.layers)) == (113, 40, 3)
    for attention in decoder.attentions.values():
        assert isinstance(attention, Attention)
        assert (attention.num_attention_heads, attention.num_key_value_heads) == (6, 2)
        assert attention.head_size == 16
    assert decoder.layers[2].mlp == Mlp("mlp", 72, "silu", "apart")


def test_absent_keys_take_the_format_s_defaults() -> None:
    given = Shape(num_kv_heads=6).config()
    for key in ("num_key_value_heads", "head_size", "attn_bias", "mapping", "norm_epsilon"):
        del given[key]
    given["num_attention_heads"] = 5
    decoder = read_decoder(given)
    attention = decoder.attentions[0]
    assert (attention.num_key_value_heads, attention.key_size) == (5, 8)
    assert decoder.norm.epsilon == 1e-5


def test_every_architecture_of_the_families_can_be_read() -> None:
    written = {
        family.writes_architecture or name
        for family in all_families()
        for name in family.architectures
    }
    assert written - set(readers()) == set()


def test_keys_of_the_reference_converter_are_known() -> None:
    config = Shape().config() | {
        "residual_mlp": False,
        "disable_weight_only_quant_plugin": False,
        "moe": {"num_experts": 0, "top_k": 0},
        "remove_duplicated_kv_heads": False,
        "share_embedding_table": False,
        "runtime_defaults": None,
        "producer": {"name": "trtllm-pack"},
    }
    assert read_decoder(config).layers[0].mlp == Mlp("mlp", 72, "silu", "apart")


def test_of_another_architecture_that_alone_is_told() -> None:
    facts = facts_of(architecture="GPTForCausalLM", gpt_variant="x", hidden_act="geglu")
    assert len(facts) == 1
    assert facts[0].startswith("`architecture` is `GPTForCausalLM`; supported: ")


@pytest.mark.parametrize(
    ("overrides", "fact"),
    [
        ({"rotary_bse": 5.0}, "`rotary_bse` is not known (`rotary_base` is)"),
        ({"architecture": "GPTForCausalLM"}, "`architecture` is `GPTForCausalLM`"),
        ({"qk_layernorm": True}, "`qk_layernorm` is `True`; supported: `False`"),
        ({"hidden_act": "geglu"}, "`hidden_act` is `geglu`"),
        ({"embedding_multiplier": "12"}, "`embedding_multiplier` is `12`; expected a number"),
        ({"moe": {"num_experts": 8, "top_k": 9}, "hidden_act": "swiglu"}, "`moe`: 9 of 8"),
        ({"moe": {"num_experts": 8, "top_k": 2, "x": 1}, "hidden_act": "swiglu"}, "`moe.x` is not"),
        ({"quantization": {"quant_algo": "FP8"}}, "`quantization` has an algorithm"),
        ({"quantization": {"kv_cache_quant_algo": "INT8"}}, "`quantization` has an algorithm"),
        ({"moe": {"num_experts": []}}, "`moe.num_experts` is `[]`; expected a whole number"),
        ({"embedding_sharding_dim": 2}, "`embedding_sharding_dim` is `2`; supported: `0`, `1`"),
        ({"use_parallel_embedding": "no"}, "`use_parallel_embedding` is `no`"),
        ({"rotary_embedding_dim": 8}, "`rotary_embedding_dim` is `8`; supported: `16`"),
        ({"attention_windows": [4, None]}, "`attention_windows` is not a list of 3 windows"),
        ({"position_embedding_type": "alibi"}, "`position_embedding_type` is `alibi`"),
        ({"hidden_size": None}, "`hidden_size` is missing"),
        ({"mapping": {"cp_size": 2}}, "`mapping.cp_size` is `2`; supported: `1`"),
        ({"mapping": {"tp_size": 4}}, "`mapping.tp_size` is 4, which does not divide 6 heads"),
        ({"num_key_value_heads": 4}, "`num_key_value_heads` is 4, which does not divide 6 heads"),
        ({"head_size": 15}, "15 dims of 15 are rotated; expected an even number"),
    ],
)
def test_what_the_graph_cannot_honour_is_an_error(overrides: dict[str, Any], fact: str) -> None:
    facts = facts_of(**overrides)
    assert len(facts) == 1
    assert facts[0].startswith(fact)


MOE = {"num_experts": 8, "top_k": 3, "tp_mode": 0, "shared_expert_intermediate_size": 0}
GROUPS = {
    "normalization_mode": 3,
    "device_limited_n_group": 4,
    "device_limited_topk_group": 2,
    "device_limited_routed_scaling_factor": 2.5,
}


@pytest.mark.parametrize(
    ("more", "routing"),
    [
        ({}, Routing(8, 3, renormalised=True)),  # MoeConfig's default
        ({"normalization_mode": 0}, Routing(8, 3)),
        ({"normalization_mode": 1, "device_limited_n_group": 4}, Routing(8, 3, renormalised=True)),
        ({"normalization_mode": 2}, Routing(8, 3, "sparse_mixer")),
        (
            {"normalization_mode": 2, "sparse_mixer_epsilon": 0.2},
            Routing(8, 3, "sparse_mixer", epsilon=0.2),
        ),
        (GROUPS, Routing(8, 3, scaling=2.5, num_groups=4, top_groups=2)),
    ],
)
def test_routings(more: dict[str, Any], routing: Routing) -> None:
    config = Shape().config() | {"moe": MOE | more, "hidden_act": "swiglu"}
    mlp = read_decoder(config).layers[0].mlp
    assert isinstance(mlp, Experts)
    assert mlp.routing == routing


@pytest.mark.parametrize(
    ("more", "fact"),
    [
        ({"normalization_mode": 4}, "`moe.normalization_mode` is `4`"),
        ({"tp_mode": 1}, "`moe.tp_mode` is `1`; supported: `0`"),
        ({"device_limited_routed_scaling_factor": 2.5}, "`moe.device_limited_routed_scaling_f"),
        ({"top_k": None}, "`moe.top_k` is missing"),
        ({"shared_expert_intermediate_size": "x"}, "`moe.shared_expert_intermediate_size` is"),
        ({**GROUPS, "device_limited_n_group": 3}, "`moe`: 8 experts cannot be put in 3 groups"),
        ({**GROUPS, "device_limited_topk_group": 1}, "`moe`: 1 groups of 2 have no 3 experts"),
    ],
)
def test_routings_that_cannot_be_honoured(more: dict[str, Any], fact: str) -> None:
    facts = facts_of(moe=MOE | more, hidden_act="swiglu")
    assert len(facts) == 1
    assert facts[0].startswith(fact)


def test_all_faults_are_gathered() -> None:
    facts = facts_of(qk_layernorm=True, dtype="float8", scale_by=3)
    assert len(facts) == 3


def test_problems_name_the_longest_sequence() -> None:
    config = Shape().config()
    assert graph_problems(config, 96) == []
    (problem,) = graph_problems(config, 97)
    assert problem.stage == "build"
    assert problem.message == "`engine.max_seq_len` is 97, but the model has 96 positions"
    assert problem.hint == "set `engine.max_seq_len` to at most 96"


def test_problems_of_an_unknown_checkpoint_carry_the_facts() -> None:
    (problem,) = graph_problems({**Shape().config(), "qk_layernorm": True}, 8)
    assert problem.kind is RecipeError
    assert problem.facts == ("`qk_layernorm` is `True`; supported: `False`",)


def test_problems_of_rotary_scalings_are_told_once() -> None:
    config = {**Shape().config(), "rotary_scaling": {"rope_type": "mrope"}}
    (problem,) = graph_problems(config, 8)
    assert "`mrope`" in problem.message


def test_config_and_weights_import_nothing_heavy() -> None:
    code = (
        "import sys, pipeline.graph.config, pipeline.graph.weights\n"
        "assert not {'numpy', 'onnx', 'ml_dtypes'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
