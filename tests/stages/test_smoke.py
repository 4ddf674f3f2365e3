"""The smoke stage: what is generated, expected, refused and recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.artifact import Artifact, Manifest, describe
from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines.generation import Generation, OnToken
from pipeline.engines.generator import GenerationRequest, SessionGenerator
from pipeline.engines.onnxruntime import ENGINE
from pipeline.errors import MachineError, RecipeError, VerificationError
from pipeline.hardware import Gpu, Hardware
from pipeline.plan import Plan
from pipeline.progress import Silent
from pipeline.recipe.schema import EngineSettings, Recipe, Source
from pipeline.recipe.smoke_section import Smoke
from pipeline.stages.smoke import STAGE
from tests.tiny_decoder import Shape, random_weights, reference_logits, write_checkpoint
from tests.tiny_tokenizer import byte_level, write_tokenizer

SHAPE = replace(Shape(), vocab_size=298, dtype="bfloat16")
LIMITS = {"max_batch_size": 2, "max_input_len": 24, "max_seq_len": 40}
PROMPT = "The capital of France is"
REASON = "no GPU of the targets is present"


class Notes(Silent):
    """Progress that keeps its notes and counts."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.done = 0

    def advance(self, amount: int) -> None:
        self.done += amount

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The artifacts before the smoke stage, as folders."""
    root = tmp_path_factory.mktemp("inputs")
    write_tokenizer(root / "download", eos_token_id=1)
    write_checkpoint(root / "convert", SHAPE, random_weights(SHAPE), tp_size=2, pp_size=3)
    (root / "build").mkdir()
    checkpoint = open_trtllm_checkpoint(root / "convert")
    ENGINE.build(checkpoint, EngineSettings(**LIMITS), root / "build", Silent())
    return {name: root / name for name in STAGE.inputs}


@pytest.fixture(scope="module")
def expected() -> tuple[list[int], str]:
    """The likeliest eight tokens after `PROMPT` by the float64 reference, and their text."""
    tokenizer = byte_level()
    prompt = tokenizer.encode(PROMPT).ids
    weights, token_ids = random_weights(SHAPE), list(prompt)
    for _ in range(8):
        token_ids.append(int(reference_logits(SHAPE, weights, token_ids)[-1].argmax()))
    begun = tokenizer.decode(prompt)
    return token_ids[len(prompt) :], tokenizer.decode(token_ids)[len(begun) :]


class Tracing(SessionGenerator):
    """An engine whose kernels are traced, and that may be wrong in its tokens or logits."""

    def __init__(self, session: Any, status: str, *, wrong_from: int | None = None) -> None:
        super().__init__(session)
        self._status, self._wrong_from = status, wrong_from

    def generate(
        self, requests: Sequence[GenerationRequest], on_token: OnToken | None = None
    ) -> list[Generation]:
        """The session's, tokens changed from a place on."""
        found = super().generate(requests, on_token)
        if self._wrong_from is None:
            return found
        place = self._wrong_from
        return [
            replace(
                one,
                token_ids=(*one.token_ids[:place], *(n + 1 for n in one.token_ids[place:])),
            )
            for one in found
        ]

    def observed(self) -> Mapping[str, Any]:
        """As of a trace with one kernel in each phase."""
        phase = {"status": self._status, "kernels": ["softmax_kernel"]}
        return {"status": self._status, "context": phase, "generation": phase}


class TracingEngine:
    """The engine backend of these tests under another name, traced."""

    name = "trtllm"

    def __init__(self, status: str = "fused", **how: Any) -> None:
        self._status, self._how = status, how

    def open_generator(self, engine_dir: Path, checkpoint_dir: Path, **_: Any) -> Tracing:
        """See `Tracing`."""
        return Tracing(ENGINE.load(engine_dir, checkpoint_dir), self._status, **self._how)


def plan_for(
    *prompts: Mapping[str, Any], executor: str = "engine", traced: Any = None, **smoke: Any
) -> Plan:
    """The parts of a plan that the stage reads."""
    settings = {"prompts": prompts or [{"text": PROMPT}], "max_new_tokens": 8, **smoke}
    recipe = Recipe(
        name="tiny",
        source=Source(path="source"),
        engine=EngineSettings(backend="onnxruntime", **LIMITS),
        smoke=Smoke.model_validate(settings),
    )
    engine = traced or (ENGINE if executor == "engine" else SimpleNamespace(name="tensorrt"))
    return cast(
        Plan,
        SimpleNamespace(
            recipe=recipe,
            engine=engine,
            executor=executor,
            executor_reason=None if executor == "engine" else REASON,
            conversion=SimpleNamespace(config=SHAPE.config()),
            hardware=Hardware(2, 1 << 30, (Gpu("T4", "sm75", 1 << 34, "580"),)),
        ),
    )


def run(
    plan: Plan, folders: Mapping[str, Path], out_dir: Path, progress: Silent | None = None
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """The stage's facts and its record."""
    inputs = {
        name: Artifact(path, Manifest(name, "0" * 64, {}, {}, ())) for name, path in folders.items()
    }
    facts = STAGE.run(plan, inputs, out_dir, progress or Silent())
    traced = {"attention.json"} if "observed" in facts else set()
    assert {path.name for path in out_dir.iterdir()} == {"smoke.json", *traced}
    return facts, json.loads((out_dir / "smoke.json").read_bytes())


def test_the_record_says_what_was_asked_and_what_came(
    folders: Mapping[str, Path], tmp_path: Path, expected: tuple[list[int], str]
) -> None:
    token_ids, text = expected
    expect = {"text": text, "token_ids": token_ids, "min_tokens": 8, "stop_reason": "length"}
    facts, record = run(plan_for({"text": PROMPT, "expect": expect}), folders, tmp_path)
    (entry,) = record["prompts"]
    assert (entry["prompt"], entry["text"], entry["token_ids"]) == (PROMPT, text, token_ids)
    assert entry["prompt_token_ids"] == byte_level().encode(PROMPT).ids
    assert [each["holds"] for each in entry["expectations"]] == [True] * 4
    assert record["sampling"] == {
        "temperature": 0.0,
        "top_p": 1.0,
        "seed": 0,
        "end_token_ids": [1],
    }
    assert record["executed_by"]["backend"] == "onnxruntime"
    assert (facts["num_prompts"], facts["num_expectations"], facts["num_tokens"]) == (1, 4, 8)
    assert "1 prompt, all 4 expectations hold, 8 tokens by onnxruntime" in STAGE.summary(facts)


def test_without_a_gpu_the_same_graph_is_executed_and_said_so(
    folders: Mapping[str, Path], tmp_path: Path, expected: tuple[list[int], str]
) -> None:
    plan = plan_for({"text": PROMPT, "expect": {"text": expected[1]}}, executor="onnxruntime")
    _, record = run(plan, folders, tmp_path)
    by = record["executed_by"]
    assert by["note"] == (
        f"the same decoder graph, computed in float32 by ONNX Runtime {by['version']} on the CPU; "
        f"the `tensorrt` engine was not executed: {REASON}"
    )


def test_rank_files_that_changed_in_the_store_are_not_executed(
    folders: Mapping[str, Path], tmp_path: Path
) -> None:
    manifest = describe(folders["convert"], "convert", "0" * 64, {}, {})
    broken = [replace(entry, blake3="0" * 64) for entry in manifest.files]
    inputs = {
        **{
            name: Artifact(path, Manifest(name, "0" * 64, {}, {}, ()))
            for name, path in folders.items()
        },
        "convert": Artifact(folders["convert"], replace(manifest, files=tuple(broken))),
    }
    with pytest.raises(VerificationError, match="damaged"):
        STAGE.run(plan_for(executor="onnxruntime"), inputs, tmp_path, Silent())
    assert not list(tmp_path.iterdir())


def test_a_required_engine_that_cannot_run_is_an_error(
    folders: Mapping[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(MachineError, match=REASON):
        run(plan_for(executor="onnxruntime", require_engine=True), folders, tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_failed_expectation_is_shown(
    folders: Mapping[str, Path], tmp_path: Path, expected: tuple[list[int], str]
) -> None:
    text = expected[1]
    prompts = [
        {"text": PROMPT, "expect": {"text": text[:3] + "?", "min_tokens": 3}},
        {"text": "The sea", "expect": {"contains": "Rome", "stop_reason": "end"}},
        {"text": PROMPT, "expect": {"text": text}},
    ]
    with pytest.raises(VerificationError, match="3 of 5 expectations") as caught:
        run(plan_for(*prompts), folders, tmp_path)
    facts = caught.value.facts
    assert facts[0] == "`smoke.prompts[0]`, 'The capital of France is':"
    assert facts[1] == "  `text` differs from character 3 on"
    assert "`smoke.prompts[1]`, 'The sea':" in facts
    assert "  `contains`: 'Rome' is not in the text" in facts
    assert "  `stop_reason` is `length`, expected `end`" in facts
    assert not any("prompts[2]" in fact for fact in facts)
    assert not list(tmp_path.iterdir())


def test_a_stop_text_ends_the_generation(
    folders: Mapping[str, Path], tmp_path: Path, expected: tuple[list[int], str]
) -> None:
    text = expected[1]
    stop = text[2:4]
    prompt = {"text": PROMPT, "stop": [stop], "expect": {"stop_reason": "stop"}}
    _, record = run(plan_for(prompt), folders, tmp_path)
    assert record["prompts"][0]["text"] == text[: text.index(stop)]
    assert len(record["prompts"][0]["token_ids"]) < 8


def test_an_end_token_ends_the_generation_and_is_no_text(
    folders: Mapping[str, Path], tmp_path: Path, expected: tuple[list[int], str]
) -> None:
    end = expected[0][3]
    write_tokenizer(tmp_path / "source", eos_token_id=end)
    prompt = {"text": PROMPT, "expect": {"stop_reason": "end", "token_ids": expected[0][:4]}}
    (tmp_path / "out").mkdir()
    _, record = run(
        plan_for(prompt), {**folders, "download": tmp_path / "source"}, tmp_path / "out"
    )
    assert record["sampling"]["end_token_ids"] == sorted({1, end})
    assert expected[1].startswith(record["prompts"][0]["text"])


def test_prompts_have_their_own_limits_and_share_batches(
    folders: Mapping[str, Path], tmp_path: Path, expected: tuple[list[int], str]
) -> None:
    prompts = [{"text": "The sea"}, {"text": PROMPT, "max_new_tokens": 3}, {"text": PROMPT}]
    progress = Notes()
    _, record = run(plan_for(*prompts), folders, tmp_path, progress)
    assert [len(entry["token_ids"]) for entry in record["prompts"]] == [8, 3, 8]
    assert record["prompts"][1]["token_ids"] == expected[0][:3]
    assert record["prompts"][2]["token_ids"] == expected[0]
    assert progress.done == 19
    assert progress.notes[0].startswith("19 tokens in ")


def test_equal_runs_give_equal_bytes(folders: Mapping[str, Path], tmp_path: Path) -> None:
    plan = plan_for({"text": "The sea"}, {"text": PROMPT}, temperature=1.3, top_p=0.9, seed=5)
    outs = [tmp_path / "a", tmp_path / "b"]
    for out_dir in outs:
        out_dir.mkdir()
        run(plan, folders, out_dir)
    first, second = ((out_dir / "smoke.json").read_bytes() for out_dir in outs)
    assert first == second
    assert str(tmp_path).encode() not in first


def test_prompts_that_do_not_fit_are_all_named(folders: Mapping[str, Path], tmp_path: Path) -> None:
    prompts = [
        {"text": "x" * 24},
        {"text": "x" * 20, "max_new_tokens": 20},
        {"text": "x" * 20},
    ]
    with pytest.raises(RecipeError, match="do not fit the engine") as caught:
        run(plan_for(*prompts), folders, tmp_path)
    assert caught.value.facts == (
        "`smoke.prompts[0]` has 25 tokens, but `engine.max_input_len` is 24",
        "`smoke.prompts[1]` has 21 tokens and asks for 20 more, but `engine.max_seq_len` is 40",
    )


def test_a_tokenizer_of_another_model_is_an_error(
    folders: Mapping[str, Path], tmp_path: Path
) -> None:
    write_tokenizer(tmp_path / "source", byte_level(num_merges=60))
    (tmp_path / "out").mkdir()
    plan = plan_for({"text": "The river of Paris is the Seine. deep rivers"})
    with pytest.raises(VerificationError, match="`vocab_size` is 298"):
        run(plan, {**folders, "download": tmp_path / "source"}, tmp_path / "out")


def test_the_key_depends_on_what_is_read() -> None:
    keys = dict.fromkeys(STAGE.inputs, "0" * 64)
    plans = [
        plan_for(),
        plan_for({"text": "Another"}),
        plan_for(seed=1),
        plan_for(executor="onnxruntime"),
    ]
    found = [STAGE.key(plan, keys) for plan in plans]
    assert None not in found
    assert len(set(found)) == len(plans)
    assert STAGE.key(plan_for(), keys) == found[0]
    assert STAGE.key(plan_for(), {"download": "0" * 64}) is None


def test_what_was_observed_stands_in_the_proof(folders: Mapping[str, Path], tmp_path: Path) -> None:
    facts, _ = run(plan_for(traced=TracingEngine("fused")), folders, tmp_path)
    document = json.loads((tmp_path / "attention.json").read_bytes())
    built = json.loads((folders["build"] / "attention.json").read_bytes())
    assert document["observed"]["status"] == facts["observed"] == "fused"
    assert {**document, "observed": None} == {**built, "observed": None}
    assert "attention observed: fused" in STAGE.summary(facts)


def test_unknown_kernels_are_recorded_and_contradict_nothing(
    folders: Mapping[str, Path], tmp_path: Path
) -> None:
    facts, _ = run(plan_for(traced=TracingEngine("unknown")), folders, tmp_path)
    assert facts["observed"] == "unknown"


def test_unfused_kernels_are_an_error_where_fused_is_required(
    folders: Mapping[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(VerificationError, match="the traced pass ran unfused attention") as caught:
        run(plan_for(traced=TracingEngine("unfused")), folders, tmp_path)
    assert "context: softmax_kernel" in caught.value.facts
    assert not list(tmp_path.iterdir())


def test_the_engine_is_compared_with_the_graph(
    folders: Mapping[str, Path], tmp_path: Path, expected: tuple[list[int], str]
) -> None:
    plan = plan_for(
        {"text": PROMPT}, {"text": "The sea"}, traced=TracingEngine(), compare={}, temperature=1.5
    )
    _, record = run(plan, folders, tmp_path)
    comparison = record["comparison"]
    assert comparison["compared"] is True
    assert comparison["executed_by"]["backend"] == "onnxruntime"
    first, second = comparison["prompts"]
    assert first["reference_token_ids"] == expected[0]
    assert first["first_difference"] is second["first_difference"] is None
    assert first["max_logit_error"] < 1e-3
    assert record["prompts"][0]["token_ids"] != expected[0]  # sampled, as the recipe wants it


def test_a_difference_is_shown_with_its_tokens(
    folders: Mapping[str, Path], tmp_path: Path, expected: tuple[list[int], str]
) -> None:
    engine = TracingEngine(wrong_from=3)
    compare = {"min_equal_tokens": 4}
    with pytest.raises(VerificationError, match="differs from the same checkpoint") as caught:
        run(plan_for(traced=engine, compare=compare), folders, tmp_path)
    assert caught.value.facts[0] == "`smoke.prompts[0]`: the tokens differ from token 3 on"
    assert str(expected[0][3]) in caught.value.facts[2]
    assert not list(tmp_path.iterdir())
    _, record = run(plan_for(traced=engine, compare={"min_equal_tokens": 3}), folders, tmp_path)
    assert record["comparison"]["prompts"][0]["first_difference"] == 3


def test_an_engine_that_was_not_executed_is_not_compared(
    folders: Mapping[str, Path], tmp_path: Path
) -> None:
    _, record = run(plan_for(executor="onnxruntime", compare={}), folders, tmp_path)
    assert record["comparison"]["compared"] is False
    assert "was not executed" in record["comparison"]["reason"]


def test_a_time_limit_changes_no_key() -> None:
    keys = dict.fromkeys(STAGE.inputs, "0" * 64)
    found = [STAGE.key(plan_for(timeout_s=seconds), keys) for seconds in (60, 600)]
    assert found[0] == found[1] != STAGE.key(plan_for(compare={}), keys)
