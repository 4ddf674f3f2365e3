"""`explain`: every option, flag and rule has its answer, in JSON and for people."""

from __future__ import annotations

import pytest

from pipeline.answers.explanation_text import all_text, one_text
from pipeline.answers.explanations import OPTION_GROUPS, explain, explain_all
from pipeline.errors import UsageError
from pipeline.trtllm.facts import facts
from pipeline.trtllm.left_out import DECIDED, GONE
from pipeline.trtllm.table import RULES
from tests.command import run_command


def test_all_options_are_listed_with_both_defaults() -> None:
    text = all_text(explain_all())
    for names in OPTION_GROUPS.values():
        for name in names:
            assert f"\n  {name} " in text
    assert "max_batch_size                   8 (TensorRT-LLM: 2048)" in text
    assert f"{len(RULES)} rules" in text


@pytest.mark.parametrize("name", [name for names in OPTION_GROUPS.values() for name in names])
def test_every_option_is_explained(name: str) -> None:
    document = explain(f"engine.{name}")
    assert document == explain(name)
    assert document["key"] == f"engine.{name}"
    text = one_text(document)
    for row in ("means", "type", "default"):
        assert f"\n  {row} " in text
    for rule in document["rules"]:
        assert f"  {rule['name']} ({rule['effect']})" in text


@pytest.mark.parametrize("flag", facts()["trtllm_build_flags"])
def test_every_flag_leads_to_an_answer(flag: str) -> None:
    document = explain(flag)
    assert document["kind"] in ("option", "decided")
    assert one_text(document)


@pytest.mark.parametrize("name", [*GONE, *DECIDED])
def test_what_is_no_option_says_what_to_do(name: str) -> None:
    assert (GONE | DECIDED)[name] in one_text(explain(name))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_is_explained(rule: object) -> None:
    document = explain(rule.name)  # type: ignore[attr-defined]
    text = one_text(document)
    for row in ("when", "effect", "reason", "fix", "keys", "source"):
        assert f"\n  {row} " in text
    assert document["sure"] in text
    assert "{{" not in text


def test_an_option_tells_its_rules_and_flag() -> None:
    text = one_text(explain("reduce_fusion"))
    assert "`--reduce_fusion`" in text
    assert "reduce-fusion-one-rank (changed)" in text
    assert "user-buffer-without-reduce-fusion (changed)" in text


def test_names_of_other_tools_and_other_keys_are_found() -> None:
    assert explain("max_model_len")["key"] == "engine.max_seq_len"
    assert explain("tp_size")["key"] == "checkpoint.tp_size"
    assert explain("--max_multimodal_len")["key"] == "engine.max_prompt_embedding_table_size"
    assert explain("plugin_config.gemm_plugin")["key"] == "engine.gemm_plugin"
    assert explain("context_fmha")["key"] == "engine.attention.context_fmha"


def test_an_unknown_name_is_an_error_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        explain("gem_plugin")
    assert "`gemm_plugin`" in str(caught.value.hint)
    with pytest.raises(UsageError) as caught:
        explain("qqqq")
    assert "lists the options" in str(caught.value.hint)
    with pytest.raises(UsageError) as caught:
        explain("engine.tensorrt")
    assert str(caught.value.hint) == (
        "it is a section of a recipe, with `engine.tensorrt.strip_weights`, "
        "`engine.tensorrt.version_compatible`"
    )
    with pytest.raises(UsageError) as caught:
        explain("engine")
    assert str(caught.value.hint).endswith("more")


def test_the_command_answers_and_fails_with_2() -> None:
    done = run_command("explain", "--strip_plan", "--json")
    assert done.returncode == 0
    assert '"key": "engine.use_strip_plan"' in done.stdout
    wrong = run_command("explain", "no_such_option")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "neither an option nor a rule" in wrong.stderr
