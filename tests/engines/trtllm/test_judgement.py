"""The whole judgement: problems with their sources, support of each target, notes."""

from __future__ import annotations

import pytest

from pipeline.engines.trtllm.judgement import attention_support, notes, rule_facts, rule_problems
from pipeline.errors import RecipeError
from pipeline.families import find_family
from pipeline.recipe.schema import EngineSettings
from pipeline.weights.layout import plan_conversion
from pipeline.weights.parallel import Parallelism
from tests.families.fixtures import NAMES, open_fixture
from tests.trtllm.judged import UNFUSED, Case, case, quantised, ranks

GOOD = case()


def fused(wanted: Case) -> bool | None:
    (row,) = attention_support(wanted.config, wanted.settings)
    return row["fused"]


def reason(wanted: Case) -> str:
    (row,) = attention_support(wanted.config, wanted.settings)
    return row["reason"]


def test_good_settings_have_no_problem_and_nothing_to_tell() -> None:
    assert rule_problems(GOOD.config, GOOD.settings) == []
    assert notes(GOOD.config, GOOD.settings) == []


def test_a_problem_has_the_source_of_its_rule() -> None:
    wrong = case(model={"dtype": "float32"})
    (problem,) = rule_problems(wrong.config, wrong.settings)
    assert (problem.stage, problem.kind) == ("build", RecipeError)
    assert "float32" in problem.message
    assert "checkpoint.dtype" in str(problem.hint)
    (source,) = problem.facts
    assert source.startswith("rule `unfused-float32`: TensorRT-LLM `attentionOp.cpp`")
    assert source.endswith("(read in a source state of the 1.2 line)")


def test_all_broken_rules_are_reported_together() -> None:
    wrong = ranks({"architecture": "MPTForCausalLM"}, {"reduce_fusion": True}, pp_size=2)
    names = [
        problem.facts[0].split("`")[1] for problem in rule_problems(wrong.config, wrong.settings)
    ]
    assert names == ["reduce-fusion-one-rank", "no-pipeline"]


def test_what_falls_back_is_told_where_it_is_allowed() -> None:
    allowed = case(model={"dtype": "float32"}, attention={"require_fused": False})
    assert rule_problems(allowed.config, allowed.settings) == []
    (note,) = notes(allowed.config, allowed.settings)
    assert "float32" in note
    assert "rule `unfused-float32`" in note


def test_an_option_without_effect_is_a_note() -> None:
    idle = case(gather_generation_logits=True)
    assert rule_problems(idle.config, idle.settings) == []
    assert "deprecated" in notes(idle.config, idle.settings)[0]


def test_a_rule_of_a_target_is_said_for_each() -> None:
    two = case(model={"head_size": 96, "attn_logit_softcapping": 50.0}, targets=["sm80", "sm90"])
    found = rule_problems(two.config, two.settings)
    capped = [problem.message for problem in found if "softly" in problem.message]
    assert len(capped) == 2
    assert "(on sm80)" in capped[0]
    assert "(on sm90)" in capped[1]
    assert any("2 GPU architectures" in problem.message for problem in found)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (GOOD, True),
        (case("sm80"), True),
        (case("sm89", {"head_size": 96}), True),
        (case("sm121"), True),
        (case("sm100"), True),
        (case("sm100", {"head_size": 80}), True),
        (case("sm100", {"head_size": 32}), None),
        (case("sm103", {"head_size": 80}), None),
        (case("sm100", {"attn_logit_softcapping": 50.0}), None),
        (case("sm90", {"attn_logit_softcapping": 50.0}), True),
        (case("sm90", {"attn_logit_softcapping": 50.0, "head_size": 96}), False),
        (case(model={"head_size": 112}), False),
        (case(model={"dtype": "float32"}), False),
        (case("sm100", {"position_embedding_type": "alibi"}), False),
        (case("sm90", {"position_embedding_type": "alibi"}), True),
        (case(gpt_attention_plugin=None), False),
        (case("sm75", {"dtype": "float16"}), False),
        (case("sm87"), False),
        (case(attention=UNFUSED, use_paged_context_fmha=False), False),
        (case(model=quantised("FP8", "FP8"), use_fp8_context_fmha=True), True),
        (case("sm120", quantised("FP8", "FP8", head_size=256), use_fp8_context_fmha=True), False),
    ],
)
def test_attention_is_fused_not_fused_or_unknown(wanted: Case, expected: bool | None) -> None:
    assert fused(wanted) is expected


def test_a_reason_says_how_it_is_known() -> None:
    assert "setup.py" in reason(GOOD)
    assert "read at 1.3.0rc3" in reason(GOOD)
    assert "inferred" in reason(case("sm100"))
    assert "rule `unfused-head-size`" in reason(case(model={"head_size": 112}))
    assert "build log" in reason(case("sm103", {"head_size": 80}))
    off = case(attention=UNFUSED, use_paged_context_fmha=False)
    assert reason(off) == "the recipe turns it off"


def test_what_a_config_leaves_out_is_filled_in() -> None:
    config = {key: value for key, value in GOOD.config.items() if key not in LEFT_OUT}
    facts = rule_facts(config, GOOD.settings)
    model = facts["model"]
    assert (model["head_size"], model["num_key_value_heads"]) == (128, 32)
    assert (model["intermediate_size"], model["rotary_embedding_dim"]) == (16384, 128)
    assert facts["max_positions"] is None
    assert "sm" not in facts


LEFT_OUT = (
    "head_size",
    "num_key_value_heads",
    "intermediate_size",
    "rotary_embedding_dim",
    "max_position_embeddings",
)


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (None, 8192),
        ({"type": "linear", "factor": 4.0}, 32768),
        ({"rope_type": "yarn", "factor": 2.5}, 20480),
        ({"rope_type": "llama3", "factor": 8.0}, 8192),
        ({"type": "longrope", "factor": 4.0}, 8192),
    ],
)
def test_positions_are_scaled_as_tensorrt_llm_does(
    scaling: dict[str, object] | None, expected: int
) -> None:
    scaled = case(model={"rotary_scaling": scaling})
    assert scaled.facts["max_positions"] == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_family_is_judged_as_the_class_that_it_becomes(name: str) -> None:
    source = open_fixture(name)
    family = find_family(source.architecture)
    plan = plan_conversion(source, family, Parallelism(), "bfloat16")
    settings = EngineSettings(max_input_len=16, max_seq_len=32)
    facts = rule_facts(plan.config, settings, "sm90")
    assert facts["model_class"] == family.model_class.name
    assert all(problem.facts for problem in rule_problems(plan.config, settings))
    assert notes(plan.config, settings) == []
