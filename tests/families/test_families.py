"""All families of the folder: found, consistent, and each architecture claimed once."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import PipelineError, RecipeError
from pipeline.families import all_families, by_architecture, find_family
from pipeline.weights.config_rules import Computed, Copy, Rope
from pipeline.weights.family import Family
from pipeline.weights.rules import Drop

ROOT = Path(__file__).parent.parent.parent


def test_every_file_of_the_folder_is_a_family() -> None:
    files = {path.stem for path in (ROOT / "pipeline" / "families").glob("*.py")} - {"__init__"}
    assert {family.name for family in all_families()} == files
    assert files


@pytest.mark.parametrize("family", all_families(), ids=lambda family: family.name)
def test_rules_are_well_formed(family: Family) -> None:
    assert family.architectures
    assert set(family.aliases) <= set(family.architectures)
    for rule in family.weight_map:
        if isinstance(rule, Drop):
            assert rule.because
            continue
        assert (rule.on is None) == rule.is_per_layer
        for part in rule.sources:
            assert ("{layer}" in part.source) == rule.is_per_layer
            assert not ("{expert}" in part.source and rule.experts is None)
            assert part.shape
            assert all(shard.dim < 2 for shard in part.shards)


@pytest.mark.parametrize("family", all_families(), ids=lambda family: family.name)
def test_a_family_is_data(family: Family) -> None:
    """Definitions, and functions that build rules; nothing that runs in a conversion."""
    path = ROOT / "pipeline" / "families" / f"{family.name}.py"
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr, ast.FunctionDef)
    assert all(isinstance(node, allowed) for node in tree.body)
    modules = {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
    ours = {module for module in modules if module.startswith("pipeline.")}
    assert all(module.split(".")[1] in ("model_classes", "weights") for module in ours)


@pytest.mark.parametrize("family", all_families(), ids=lambda family: family.name)
def test_every_key_that_a_family_writes_is_one_of_its_class(family: Family) -> None:
    for rule in family.config:
        if isinstance(rule, Copy | Computed) and not rule.written:
            continue
        targets = {getattr(rule, name, None) for name in ("target", "base", "scaling", "fraction")}
        if isinstance(rule, Rope) and not rule.written:
            targets = set()
        for target in targets - {None}:
            assert str(target).partition(".")[0] in family.model_class.keys


@pytest.mark.parametrize("family", all_families(), ids=lambda family: family.name)
def test_a_digest_is_of_the_rules(family: Family) -> None:
    assert family.digest() == dataclasses.replace(family).digest()
    changed = dataclasses.replace(family, weight_map=family.weight_map[:-1])
    assert family.digest() != changed.digest()


def test_a_digest_is_the_same_in_another_process() -> None:
    code = "from pipeline.families import find_family as f; print(f('LlamaForCausalLM').digest())"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert digests == {find_family("LlamaForCausalLM").digest() + "\n"}


def test_two_families_cannot_claim_one_architecture() -> None:
    first = all_families()[0]
    other = dataclasses.replace(first, name="other")
    with pytest.raises(PipelineError, match=f"both claim `{first.architectures[0]}`"):
        by_architecture([first, other])


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("LLaMAForCausalLM", "TensorRT-LLM 1.2 has no class for it either"),
        ("GptOssForCausalLM", "TensorRT-LLM 1.2 has no class for it either"),
        ("ArcticForCausalLM", "TensorRT-LLM 1.2 has a class for it, but there is no family file"),
        ("x\x1b[2J", r"`x\x1b[2J` is not supported"),
    ],
)
def test_an_unknown_architecture(architecture: str, reason: str) -> None:
    with pytest.raises(RecipeError) as caught:
        find_family(architecture)
    assert reason in caught.value.message
    assert "`LlamaForCausalLM`" in caught.value.facts[0]


def test_the_nearest_architecture_is_told_first() -> None:
    with pytest.raises(RecipeError) as caught:
        find_family("MistralForCausalLm")
    assert caught.value.facts[0].startswith("supported: `MistralForCausalLM`")


def test_planning_imports_nothing_heavy() -> None:
    """Plan modules are imported by every command."""
    code = (
        "import sys, pipeline.families, pipeline.weights.layout, pipeline.weights.ledger, "
        "pipeline.weights.stream, pipeline.weights.roundtrip; pipeline.families.all_families(); "
        "print(sorted({'numpy', 'ml_dtypes', 'torch', 'safetensors'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
