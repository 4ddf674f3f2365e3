"""What a plan says of a comparison of logits that could not be made, and what it would take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import MachineError, Problem, RecipeError
from pipeline.parity import problems as module
from pipeline.parity.memory import logits_memory, most_layers
from pipeline.parity.problems import logits_problems
from pipeline.parity.reference import loading_faults, why_no_reference
from pipeline.recipe.verify_section import Verify
from tests import tiny
from tests.families.fixtures import FIXTURES
from tests.tiny_decoder import Shape
from tests.weights import converting

TARGET = Shape().config()
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torch were there; transformers is, and its table of classes needs no torch."""
    monkeypatch.setattr(module, "why_no_reference", lambda: None)


def found(
    source: Mapping[str, Any] = LLAMA,
    target: Mapping[str, Any] = TARGET,
    has_tokenizer: bool = True,
    **settings: Any,
) -> list[Problem]:
    verify = Verify(**{"logits": True, **settings})
    return logits_problems(verify, source, target, has_tokenizer=has_tokenizer)


@pytest.mark.usefixtures("installed")
def test_a_family_that_transformers_has_is_compared() -> None:
    assert found() == []
    assert found(texts=("a",)) == []
    assert found(layers=3, tokens=96) == []


def test_where_no_logits_are_wanted_nothing_is_a_problem() -> None:
    assert found({}, {}, logits=False, layers=99) == []


def test_what_is_not_installed_is_one_problem_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.parity.reference.find_spec", lambda name: None)
    assert why_no_reference() == "`torch` and `transformers` are not installed"
    (problem,) = found()
    assert (problem.stage, problem.kind) == ("verify", MachineError)
    assert "but `torch` and `transformers` are not installed" in problem.message
    assert problem.hint is not None
    assert "pip install 'trtllm-pack[verify]'" in problem.hint


@pytest.mark.usefixtures("installed")
def test_a_family_that_transformers_lacks_is_a_problem() -> None:
    source = {"model_type": "internlm", "auto_map": {"AutoModelForCausalLM": "code.Model"}}
    (problem,) = found(source)
    assert "no class for the `model_type` `internlm`" in problem.message
    assert problem.facts == (
        "`config.json` points to Python code of the source, which is never executed: `code.Model`",
    )
    assert problem.kind is RecipeError
    (problem,) = found({"model_type": ["llama"]})
    assert problem.facts == ()
    (problem,) = found({})
    assert "`None`" in problem.message


@pytest.mark.usefixtures("installed")
def test_a_config_that_transformers_refuses_is_a_problem() -> None:
    config = json.loads((FIXTURES / "mpt-gqa" / "config.json").read_bytes())
    (problem,) = found(config)
    assert "which refuses `config.json`" in problem.message
    assert any("grouped_query_attention" in fact for fact in problem.facts)


@pytest.mark.usefixtures("installed")
def test_code_beside_a_class_of_transformers_is_no_problem() -> None:
    """transformers takes its own class; the code is not executed."""
    assert found({**LLAMA, "auto_map": {"AutoModelForCausalLM": "code.Model"}}) == []


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layers": 4}, "`verify.layers` is 4, but the model has 3 layers"),
        ({"tokens": 97}, "`verify.tokens` is 97, but the model has 96 positions"),
        ({"texts": ("a",), "has_tokenizer": False}, "the source has no tokenizer"),
    ],
)
def test_what_does_not_fit_the_model(settings: dict[str, Any], words: str) -> None:
    (problem,) = found(**settings)
    assert words in problem.message
    assert problem.hint
    assert problem.kind is RecipeError


@pytest.mark.usefixtures("installed")
def test_what_the_graph_cannot_express_is_a_problem_of_this_stage() -> None:
    (problem,) = found(target={**TARGET, "unheard_of": 3})
    assert problem.stage == "verify"
    assert problem.message.startswith("`verify.logits` needs the decoder graph: ")
    assert any("unheard_of" in fact for fact in problem.facts)


def test_memory_grows_with_layers_and_logits(tmp_path: Path) -> None:
    conversion = converting.plan(tiny.write_checkpoint(tmp_path / "source"))
    one, two, three = (logits_memory(conversion, count, Verify()) for count in (1, 2, 3))
    hidden, mlp = 48, 72
    weights = 2 * hidden * 96 + 2 * hidden * 32 + 3 * hidden * mlp + 2 * hidden
    assert two - one == three - two == 7 * weights
    assert logits_memory(conversion, 1, Verify(tokens=33)) - one == 5 * 113 * 20
    assert most_layers(conversion, Verify(), three) == 3
    assert most_layers(conversion, Verify(), three - 1) == 2
    assert most_layers(conversion, Verify(), one - 1) == 0


INFO: dict[str, list[Any]] = {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}


def faults(num_layers: int, dropped: tuple[str, ...] = (), **info: list[Any]) -> list[str]:
    return list(loading_faults({**INFO, **info}, num_layers, dropped))


def test_tensors_of_later_layers_and_dropped_ones_need_not_be_read() -> None:
    names = ["model.layers.2.mlp.up_proj.weight", "model.layers.10.mlp.experts.0.w1.weight"]
    assert faults(2, unexpected_keys=names) == []
    assert faults(3, unexpected_keys=names) == [
        "`model.layers.2.mlp.up_proj.weight` is in the source, but transformers does not read it"
    ]
    assert faults(9, ("h.1.attn.bias",), unexpected_keys=["transformer.h.1.attn.bias"]) == []
    assert len(faults(9, ("h.1.attn.bias",), unexpected_keys=["transformer.h.1.attn.b.bias"])) == 1
    assert len(faults(9, unexpected_keys=["model.norm.bias"])) == 1


def test_what_would_be_random_is_a_fault() -> None:
    assert faults(1, missing_keys=["lm_head.weight"]) == [
        "`lm_head.weight` is not in the source, and would be random"
    ]
    assert len(faults(1, mismatched_keys=[("a", (1,), (2,))])) == 1
