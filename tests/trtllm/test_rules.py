"""Every rule breaks where it should, holds with its fix applied, and can be said."""

from __future__ import annotations

from collections import Counter

import pytest

from pipeline.families import all_families
from pipeline.recipe.sections import sections
from pipeline.trtllm.model_rules import NOT_PIPELINED
from pipeline.trtllm.rules import SURENESS, Finding, Rule, find_broken
from pipeline.trtllm.table import GROUPS, RULES, find_rule
from tests.trtllm.judged import case
from tests.trtllm.rule_examples import EXAMPLES, GOOD

KEYS = {".".join((*path, key)) for path, model in sections().items() for key in model.model_fields}


def broken(rule: Rule, facts: dict[str, object]) -> Finding | None:
    found = find_broken([rule], facts)
    return found[0] if found else None


def test_names_are_unique() -> None:
    assert [name for name, count in Counter(rule.name for rule in RULES).items() if count > 1] == []
    assert sum(map(len, GROUPS.values())) == len(RULES) > 120


def test_every_rule_has_its_example_and_no_other() -> None:
    assert set(EXAMPLES) == {rule.name for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_breaks_by_its_example_and_holds_with_its_fix(rule: Rule) -> None:
    wrong, right = EXAMPLES[rule.name]
    finding = broken(rule, wrong.facts)
    assert finding is not None
    for text in (finding.message, finding.hint):
        assert "None" not in text
        assert text == text.strip().rstrip(".")
    assert rule.source in finding.told_source
    assert SURENESS[rule.sure] in finding.told_source
    assert broken(rule, right.facts) is None


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_reads_known_facts_and_names_keys_of_a_recipe(rule: Rule) -> None:
    assert rule.needs <= case().facts.keys()
    assert rule.keys
    assert set(rule.keys) <= KEYS
    assert rule.sure in SURENESS


def test_good_settings_break_no_rule() -> None:
    assert find_broken(RULES, GOOD.facts) == []
    for target in ("sm80", "sm86", "sm89", "sm100", "sm103", "sm120", "sm121"):
        assert find_broken(RULES, case(target).facts) == []


def test_a_rule_that_reads_an_unknown_fact_is_passed_by() -> None:
    wrong, _ = EXAMPLES["volta-dropped"]
    rule = find_rule("volta-dropped")
    assert rule is not None
    facts = {key: value for key, value in wrong.facts.items() if key != "sm"}
    assert broken(rule, facts) is None


def test_rules_are_found_by_name_and_by_key() -> None:
    assert find_rule("no-such-rule") is None
    about = {rule.name for rule in RULES if "engine.reduce_fusion" in rule.keys}
    assert {"reduce-fusion-one-rank", "two-norm-fusions"} <= about


def test_classes_without_a_pipeline_are_known_to_the_rules() -> None:
    classes = [family.model_class for family in all_families()]
    unsplit = {model_class.name for model_class in classes if not model_class.is_pipelined}
    # These two are split among pp ranks, but their forward pass neither sends nor receives.
    assert unsplit == set(NOT_PIPELINED) - {"GPTJForCausalLM", "MPTForCausalLM"}
