"""Smoke: generate from the recipe's prompts and check what it expects of the text.

The engine itself is executed where this machine can; elsewhere the same decoder graph is, on ONNX
Runtime's CPU provider in float32, and the record says so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.artifact import Json, check_digests, write_json
from pipeline.engines.attention_proof import (
    NOT_OBSERVED,
    check_observed,
    read_proof,
    with_observed,
    write_proof,
)
from pipeline.engines.comparison import compare_with
from pipeline.engines.generation import Generation
from pipeline.engines.generator import GenerationRequest, Generator
from pipeline.engines.reference import open_reference
from pipeline.errors import MachineError
from pipeline.installed import installed
from pipeline.plan import Plan
from pipeline.progress import Progress
from pipeline.recipe.smoke_section import Compare
from pipeline.smoke_test.prompts import SmokePrompt, smoke_prompts
from pipeline.smoke_test.record import RECORD_NAME, check_expectations, smoke_record
from pipeline.stages.stage import Inputs, Stage
from pipeline.tokenizer import TextStream, end_token_ids, load_tokenizer
from pipeline.wording import counted

if TYPE_CHECKING:
    from pathlib import Path

TOOLS = ("onnxruntime", "onnxruntime-gpu", "tokenizers", "transformers")
"""What is in the key: they make the text."""

NO_ENGINE = "the engine was not executed, but what it would be compared with was"


def settings(plan: Plan) -> Json:
    """Prompts and expectations, the engine's limits, and everything that executes them."""
    engine = plan.recipe.engine
    return {
        "smoke": plan.recipe.smoke.model_dump(mode="json", exclude={"timeout_s"}),
        "max_batch_size": engine.max_batch_size,
        "max_input_len": engine.max_input_len,
        "max_seq_len": engine.max_seq_len,
        "executor": plan.executor,
        "executor_reason": plan.executor_reason,
        "gpus": sorted({gpu.name for gpu in plan.hardware.gpus if plan.executor == "engine"}),
        "tools": installed(TOOLS),
    }


def run(plan: Plan, inputs: Inputs, out_dir: Path, progress: Progress) -> Mapping[str, Json]:
    """Generate, check, compare, and write `smoke.json`; all expectations that fail are one error.

    Where the engine's kernels were traced, its attention proof is written again, with what was
    observed in it.
    """
    source_dir = inputs["download"].path
    tokenizer = load_tokenizer(source_dir)
    ends = end_token_ids(source_dir, tokenizer)
    vocab_size = plan.conversion.config["vocab_size"]
    prompts = smoke_prompts(plan.recipe, vocab_size, tokenizer, ends)
    streams = [TextStream(tokenizer, each.token_ids, each.prompt.stop) for each in prompts]
    compares = plan.recipe.smoke.compare is not None and plan.executor == "engine"
    greedy = [each.greedy_request(wants_logits=True) for each in prompts] if compares else []
    with _open_executor(plan, inputs) as generator:
        generations = _generate(generator, prompts, greedy, streams, progress)
        executed_by, observed = _executed_by(plan, generator), generator.observed()
    generations, compared = generations[: len(prompts)], generations[len(prompts) :]
    outcomes = check_expectations(prompts, streams, generations)
    smoke = plan.recipe.smoke
    record = smoke_record(smoke, executed_by, prompts, streams, generations, outcomes)
    if smoke.compare is not None:
        record["comparison"] = _comparison(plan, inputs, smoke.compare, greedy, compared, progress)
    if observed is not None:
        check_observed(observed, plan.recipe.engine.attention)
        write_proof(out_dir, with_observed(read_proof(inputs["build"].path), observed))
    write_json(out_dir / RECORD_NAME, record)
    return {
        "num_prompts": len(prompts),
        "num_expectations": sum(len(found) for found in outcomes),
        "num_tokens": sum(len(generation.token_ids) for generation in generations),
        "executed_by": executed_by,
        **({} if observed is None else {"observed": observed["status"]}),
    }


def _open_executor(plan: Plan, inputs: Inputs) -> Generator:
    """The engine, or the same graph on the CPU where the engine cannot run."""
    checkpoint_dir, smoke = inputs["convert"].path, plan.recipe.smoke
    if plan.executor == "engine":
        check_digests(inputs["build"])
        engine_dir = inputs["build"].path
        return plan.engine.open_generator(engine_dir, checkpoint_dir, timeout_s=smoke.timeout_s)
    if smoke.require_engine:
        raise MachineError(
            f"`smoke.require_engine` is true, but the engine cannot run here: "
            f"{plan.executor_reason}",
            hint="run on a machine with a target GPU, or set `smoke.require_engine: false`",
        )
    return _open_reference(plan, inputs)


def _open_reference(plan: Plan, inputs: Inputs) -> Generator:
    """The same graph on the CPU, over rank files that are as they were published."""
    check_digests(inputs["convert"])
    return open_reference(inputs["convert"].path, plan.recipe.engine)


def _comparison(
    plan: Plan,
    inputs: Inputs,
    compare: Compare,
    greedy: Sequence[GenerationRequest],
    generations: Sequence[Generation],
    progress: Progress,
) -> dict[str, Json]:
    """The engine's greedy generations held against the same graph on the CPU, one a prompt."""
    if plan.executor != "engine":
        return {"compared": False, "reason": NO_ENGINE}
    vocab_size = plan.conversion.config["vocab_size"]
    progress.start("compare", len(greedy), "prompts")
    with _open_reference(plan, inputs) as reference:
        found = compare_with(reference, greedy, generations, compare, vocab_size)
    progress.advance(len(greedy))
    return found


def _executed_by(plan: Plan, generator: Generator) -> dict[str, str]:
    """What the record says about who computed: never more than was executed."""
    executed_by = dict(generator.executed_by)
    if plan.executor != "engine":
        executed_by["note"] = (
            f"the same decoder graph, computed in float32 by ONNX Runtime "
            f"{executed_by['version']} on the CPU; the `{plan.engine.name}` engine was not "
            f"executed: {plan.executor_reason}"
        )
    return executed_by


def _generate(
    generator: Generator,
    prompts: Sequence[SmokePrompt],
    greedy: Sequence[GenerationRequest],
    streams: Sequence[TextStream],
    progress: Progress,
) -> list[Generation]:
    """All prompts, tokens going to their text streams, then those to compare, which have none.

    The speed is told, not recorded.
    """
    requests = [*(each.request() for each in prompts), *greedy]
    progress.start("generate", sum(each.sampling.max_new_tokens for each in requests), "tokens")

    def on_token(index: int, token_id: int) -> bool:
        progress.advance(1)
        if index >= len(streams) or token_id in requests[index].sampling.stop_token_ids:
            return False
        streams[index].push(token_id)
        return streams[index].stopped

    begun = time.perf_counter()
    generations = generator.generate(requests, on_token)
    seconds = time.perf_counter() - begun
    for stream in streams:
        stream.finish()
    num_tokens = sum(len(generation.token_ids) for generation in generations)
    progress.note(f"{num_tokens} tokens in {seconds:.2f} s, {num_tokens / seconds:.1f} a second")
    return generations


_SEEN = {
    "fused": "observed: fused",
    "unfused": "observed: unfused",
    "unknown": "observed: unknown kernels",
    NOT_OBSERVED: "not observed",
}


def summary(facts: Mapping[str, Json]) -> str:
    """For example `2 prompts, all 3 expectations hold, 32 tokens by onnxruntime 1.32.0 on cpu`."""
    by, num_expectations = facts["executed_by"], facts["num_expectations"]
    held = f"all {num_expectations} expectations hold" if num_expectations else "nothing expected"
    observed = f", attention {_SEEN[facts['observed']]}" if "observed" in facts else ""
    return (
        f"{counted(facts['num_prompts'], 'prompt')}, {held}, "
        f"{counted(facts['num_tokens'], 'token')} by {by['backend']} {by['version']} "
        f"on {by['device']}{observed}"
    )


STAGE = Stage(
    name="smoke",
    version=1,
    inputs=("download", "convert", "build"),
    settings=settings,
    run=run,
    summary=summary,
)
