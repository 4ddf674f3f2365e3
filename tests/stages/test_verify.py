"""Stage `verify` on real files: the parity record, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pipeline.artifact import Artifact, Json, describe
from pipeline.checkpoint.safetensors_file import read_header
from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.errors import RecipeError, VerificationError
from pipeline.parity import logits as seam
from pipeline.parity.execution import graph_logits
from pipeline.parity.reference import Reference, SourceModel
from pipeline.parity.truncation import first_layers
from pipeline.plan import Plan
from pipeline.progress import Silent
from pipeline.recipe.schema import Recipe
from pipeline.sources import open_source
from pipeline.sources.digest_memory import DigestMemory
from pipeline.stages.verify import STAGE
from pipeline.weights.layout import ConversionPlan
from tests import tiny
from tests.tiny_tokenizer import write_tokenizer
from tests.weights import converting

EXECUTED_BY = {
    "backend": "transformers",
    "version": "0",
    "torch": "0",
    "class": "LlamaForCausalLM",
    "dtype": "float32",
}


def artifact(folder: Path, stage: str) -> Artifact:
    return Artifact(folder, describe(folder, stage, stage[0] * 64, {}, {}))


def make_plan(source: Path, conversion: ConversionPlan, **verify: Any) -> Plan:
    recipe = Recipe.model_validate({"name": "tiny", "source": {"path": "source"}, "verify": verify})
    made = SimpleNamespace(
        conversion=conversion,
        recipe=recipe,
        source=open_source(
            recipe.source, source.parent, DigestMemory(source.parent / "store"), offline=True
        ),
    )
    return cast(Plan, made)


def run(plan: Plan, source: Path, converted: Path, out_dir: Path) -> dict[str, Json]:
    out_dir.mkdir()
    inputs = {"download": artifact(source, "download"), "convert": artifact(converted, "convert")}
    return dict(STAGE.run(plan, inputs, out_dir, Silent()))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[tuple[SourceModel, list[list[int]], int]]:
    """In the place of transformers stands the graph of the same source, converted once more."""
    asked: list[tuple[SourceModel, list[list[int]], int]] = []

    def logits(
        model: SourceModel, sequences: Sequence[Sequence[int]], num_layers: int
    ) -> Reference:
        asked.append((model, [list(tokens) for tokens in sequences], num_layers))
        out_dir = model.path.parent / f"again-{len(asked)}"
        converting.convert(converting.plan(model.path), model.path, out_dir)
        checkpoint = first_layers(open_trtllm_checkpoint(out_dir), num_layers)
        return Reference(graph_logits(checkpoint, sequences).prefill, EXECUTED_BY)

    monkeypatch.setattr(seam, "reference_logits", logits)
    return asked


Asked = list[tuple[SourceModel, list[list[int]], int]]


@pytest.mark.parametrize(
    ("dtype", "summary"),
    [
        ("float32", "30 tensors equal to the byte"),
        ("bfloat16", "30 tensors cast, relative error up to 0.0039"),
    ],
)
def test_the_record_is_written_and_told(dtype: str, summary: str, tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "source", dtype="float32")
    conversion = converting.plan(source, 2, 2, dtype)
    converted = converting.convert(conversion, source, tmp_path / "converted")
    facts = run(make_plan(source, conversion), source, converted, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "parity.json").read_text()) == facts
    assert facts.keys() == {"structure"}
    assert facts["structure"]["source_tensors"] == 30
    assert STAGE.summary(facts) == summary


def test_a_wrong_weight_is_named(tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "source")
    conversion = converting.plan(source)
    converted = converting.convert(conversion, source, tmp_path / "converted")
    info = read_header(converted / "rank0.safetensors")["transformer.layers.1.mlp.gate.weight"]
    with (converted / "rank0.safetensors").open("r+b") as file:
        file.seek(info.offset)
        file.write(b"\xff")
    with pytest.raises(VerificationError) as caught:
        run(make_plan(source, conversion, logits=True), source, converted, tmp_path / "out")
    (fact,) = caught.value.facts
    assert fact == (
        "row 0 of `transformer.layers.1.mlp.gate.weight` in `rank0.safetensors` is not what "
        "`model.layers.1.mlp.up_proj.weight` holds"
    )
    assert not list((tmp_path / "out").iterdir())


def test_logits_are_compared_where_the_recipe_asks_for_them(
    tmp_path: Path, stand_in: Asked
) -> None:
    source = tiny.write_checkpoint(tmp_path / "source")
    conversion = converting.plan(source, 2, 1)
    converted = converting.convert(conversion, source, tmp_path / "converted")
    plan = make_plan(source, conversion, logits=True, layers=2, tokens=6, prompts=2, min_cosine=0.9)
    facts = run(plan, source, converted, tmp_path / "out")
    ((model, sequences, num_layers),) = stand_in
    assert (model.path, model.num_layers, num_layers) == (source, 3, 2)
    assert [len(tokens) for tokens in sequences] == [6, 3]  # and no text: there is no tokenizer
    assert json.loads((tmp_path / "out" / "parity.json").read_text()) == facts
    assert facts["logits"]["thresholds"] == {
        "min_cosine": 0.9,
        "max_norm_error": 1e-4,
        "max_relative_error": 1e-4,
    }
    assert STAGE.summary(facts).startswith(
        "30 tensors equal to the byte; logits of the first 2 layers as transformers 0 gives them "
        "at 9 positions: cosine 1, norms off by "
    )


def test_nothing_is_written_where_logits_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: Asked
) -> None:
    inner = seam.reference_logits

    def broken(model: SourceModel, sequences: Sequence[Sequence[int]], count: int) -> Reference:
        found = inner(model, sequences, count)
        return Reference([one * np.float32(1.01) for one in found.logits], found.executed_by)

    monkeypatch.setattr(seam, "reference_logits", broken)
    source = tiny.write_checkpoint(tmp_path / "source")
    conversion = converting.plan(source)
    converted = converting.convert(conversion, source, tmp_path / "converted")
    with pytest.raises(VerificationError, match="does not compute what transformers computes"):
        run(make_plan(source, conversion, logits=True), source, converted, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    assert len(stand_in) == 2  # all layers, then the first alone


def test_where_weights_were_rounded_a_difference_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def zeros(_: SourceModel, sequences: Sequence[Sequence[int]], count: int) -> Reference:
        return Reference([np.zeros((len(one), 113), np.float32) for one in sequences], EXECUTED_BY)

    monkeypatch.setattr(seam, "reference_logits", zeros)
    source = tiny.write_checkpoint(tmp_path / "source", dtype="float32")
    conversion = converting.plan(source, dtype="float16")
    converted = converting.convert(conversion, source, tmp_path / "converted")
    with pytest.raises(VerificationError) as caught:
        run(make_plan(source, conversion, logits=True), source, converted, tmp_path / "out")
    told = [fact for fact in caught.value.facts if "conversion rounded weights to float16" in fact]
    assert len(told) == 1


@pytest.mark.parametrize("texts", [None, ("The sea", "Rome")])
def test_texts_are_compared_beside_random_tokens(
    texts: tuple[str, ...] | None, tmp_path: Path, stand_in: Asked
) -> None:
    source, conversion, converted = with_tokenizer(tmp_path, vocab_size=300)
    plan = make_plan(source, conversion, logits=True, tokens=9, texts=texts)
    facts = run(plan, source, converted, tmp_path / "out")
    told = [(one["name"], one["tokens"]) for one in facts["logits"]["sequences"][4:]]
    if texts is None:
        assert told == [("text 0", 9)]  # the default one is cut
    else:
        assert [name for name, _ in told] == ["text 0", "text 1"]
        assert stand_in[0][1][5][0] == 0  # `<s>`, which the tokenizer puts in front


def test_texts_must_fit_the_model(tmp_path: Path) -> None:
    source, conversion, converted = with_tokenizer(tmp_path, vocab_size=300)
    plan = make_plan(source, conversion, logits=True, texts=["x" * 300])
    with pytest.raises(RecipeError) as caught:
        run(plan, source, converted, tmp_path / "out")
    assert caught.value.facts == ("`verify.texts[0]` has 301 tokens, the model 256 positions",)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    source, conversion, converted = with_tokenizer(tmp_path, vocab_size=113)
    plan = make_plan(source, conversion, logits=True)
    with pytest.raises(VerificationError, match="but the model's `vocab_size` is 113"):
        run(plan, source, converted, tmp_path / "out")


def with_tokenizer(folder: Path, vocab_size: int) -> tuple[Path, ConversionPlan, Path]:
    """A source with a tokenizer of 298 tokens, its plan, and its converted checkpoint."""
    write_tokenizer(folder / "source")
    source = tiny.write_checkpoint(folder / "source", {**tiny.CONFIG, "vocab_size": vocab_size})
    conversion = converting.plan(source)
    return source, conversion, converting.convert(conversion, source, folder / "converted")


def test_the_key_has_what_decides_the_result_and_nothing_else(tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "source")
    conversion = converting.plan(source)

    def settings(**verify: Any) -> Json:
        return STAGE.settings(make_plan(source, conversion, **verify))

    assert settings() == {"rules": conversion.family.digest()}
    assert settings(layers=2, seed=3) == settings()  # no logits, no matter
    asked = settings(logits=True)
    assert asked["tools"].keys() >= {"numpy", "onnxruntime", "tokenizers", "transformers"}
    others = [{"layers": 2}, {"seed": 3}, {"texts": ["a"]}, {"tokens": 5}, {"min_cosine": 0.9}]
    for other in others:
        assert settings(logits=True, **other) != asked
