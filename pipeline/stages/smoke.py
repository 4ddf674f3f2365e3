"""Smoke: generate from the recipe's prompts and check what it expects of the text.

The engine itself is executed where this machine can; elsewhere the same decoder graph is, on ONNX
Runtime's CPU provider in float32, and the record says so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from pipeline.artifact import Json, write_json
from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines.expectations import Outcome, check
from pipeline.engines.generation import Generation, Sampling, Session, generate
from pipeline.errors import MachineError, RecipeError, VerificationError
from pipeline.plan import Plan
from pipeline.progress import Progress
from pipeline.recipe.schema import Prompt
from pipeline.stages.stage import Inputs, Stage
from pipeline.tokenizer import TextStream, Tokenizer, encode, end_token_ids, load_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

RECORD_NAME = "smoke.json"


@dataclass(frozen=True)
class Request:
    """One prompt of the recipe, with its tokens and its own limits."""

    number: int
    prompt: Prompt
    token_ids: tuple[int, ...]
    sampling: Sampling


def settings(plan: Plan) -> Json:
    """Prompts and expectations, the engine's limits, and everything that executes them."""
    engine = plan.recipe.engine
    return {
        "smoke": plan.recipe.smoke.model_dump(mode="json"),
        "max_batch_size": engine.max_batch_size,
        "max_input_len": engine.max_input_len,
        "max_seq_len": engine.max_seq_len,
        "executor": plan.executor,
        "executor_reason": plan.executor_reason,
        "gpus": sorted({gpu.name for gpu in plan.hardware.gpus if plan.executor == "engine"}),
        "tools": _versions("onnxruntime", "onnxruntime-gpu", "tokenizers", "transformers"),
    }


def _versions(*names: str) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def run(plan: Plan, inputs: Inputs, out_dir: Path, progress: Progress) -> Mapping[str, Json]:
    """Generate, check, and write `smoke.json`. All expectations that fail are one error."""
    source_dir = inputs["download"].path
    tokenizer = load_tokenizer(source_dir)
    requests = _requests(plan, tokenizer, end_token_ids(source_dir, tokenizer))
    session, executed_by = _open_executor(plan, inputs)
    streams = [TextStream(tokenizer, each.token_ids, each.prompt.stop) for each in requests]
    generations = _generate(session, requests, streams, progress)
    texts = [stream.text for stream in streams]
    outcomes = [
        check(each.prompt.expect, text, generation)
        for each, text, generation in zip(requests, texts, generations, strict=True)
    ]
    _raise_failures(requests, outcomes)
    entries = [
        _entry(each, text, generation, found)
        for each, text, generation, found in zip(
            requests, texts, generations, outcomes, strict=True
        )
    ]
    write_json(out_dir / RECORD_NAME, _record(plan, executed_by, requests, entries))
    return {
        "num_prompts": len(requests),
        "num_expectations": sum(len(found) for found in outcomes),
        "num_tokens": sum(len(generation.token_ids) for generation in generations),
        "executed_by": executed_by,
    }


def _requests(plan: Plan, tokenizer: Tokenizer, ends: frozenset[int]) -> list[Request]:
    """The recipe's prompts as tokens. Raises RecipeError with all that do not fit the engine."""
    smoke, engine = plan.recipe.smoke, plan.recipe.engine
    requests, faults = [], []
    for number, prompt in enumerate(smoke.prompts):
        token_ids, name = encode(tokenizer, prompt.text), f"`smoke.prompts[{number}]`"
        limit = prompt.max_new_tokens or smoke.max_new_tokens
        if not token_ids:
            faults.append(f"{name} has no tokens")
        if len(token_ids) > engine.max_input_len:
            faults.append(
                f"{name} has {len(token_ids)} tokens, but `engine.max_input_len` is "
                f"{engine.max_input_len}"
            )
        if len(token_ids) + limit > engine.max_seq_len:
            faults.append(
                f"{name} has {len(token_ids)} tokens and asks for {limit} more, but "
                f"`engine.max_seq_len` is {engine.max_seq_len}"
            )
        sampling = Sampling(limit, smoke.temperature, smoke.top_p, smoke.seed, ends)
        requests.append(Request(number, prompt, tuple(token_ids), sampling))
    if faults:
        raise RecipeError(
            "the smoke test's prompts do not fit the engine",
            facts=faults,
            hint="shorten them, or raise the limits of `engine`",
        )
    _check_vocabulary(plan, requests)
    return requests


def _check_vocabulary(plan: Plan, requests: Sequence[Request]) -> None:
    """The tokenizer may know no token that the model has no embedding for."""
    vocab_size = plan.conversion.config["vocab_size"]
    unknown = sorted(
        {token for each in requests for token in each.token_ids if token >= vocab_size}
    )
    if unknown:
        raise VerificationError(
            f"the tokenizer yields the token ids {unknown}, but the model's `vocab_size` is "
            f"{vocab_size}",
            hint="use the tokenizer that belongs to the model",
        )


def _open_executor(plan: Plan, inputs: Inputs) -> tuple[Session, dict[str, str]]:
    """The engine, or the same graph on the CPU; and what the record says about it."""
    convert_dir = inputs["convert"].path
    if plan.executor == "engine":
        session = plan.engine.load(inputs["build"].path, convert_dir)
        return session, dict(session.executed_by)
    if plan.recipe.smoke.require_engine:
        raise MachineError(
            f"`smoke.require_engine` is true, but the engine cannot run here: "
            f"{plan.executor_reason}",
            hint="run on a machine with a target GPU, or set `smoke.require_engine: false`",
        )
    session = _open_on_cpu(plan, convert_dir)
    executed_by = dict(session.executed_by)
    executed_by["note"] = (
        f"the same decoder graph, computed in float32 by ONNX Runtime {executed_by['version']} on "
        f"the CPU; the `{plan.engine.name}` engine was not executed: {plan.executor_reason}"
    )
    return session, executed_by


def _open_on_cpu(plan: Plan, convert_dir: Path) -> Session:
    """The decoder graph of the converted checkpoint, written anew for the CPU: same nodes, fp32."""
    from pipeline.engines.cpu_session import Limits, open_session
    from pipeline.graph.decoder import GraphOptions, decoder_model

    engine = plan.recipe.engine
    options = GraphOptions(engine.max_seq_len, "float32", fixed_cache=False)
    model, _ = decoder_model(open_trtllm_checkpoint(convert_dir), options)
    limits = Limits(engine.max_batch_size, engine.max_seq_len)
    return open_session(model.SerializeToString(), convert_dir, limits)


def _generate(
    session: Session,
    requests: Sequence[Request],
    streams: Sequence[TextStream],
    progress: Progress,
) -> list[Generation]:
    """Generate in batches, tokens going to their text streams; the speed is told, not recorded."""
    progress.start("generate", sum(each.sampling.max_new_tokens for each in requests), "tokens")

    def on_token(index: int, token_id: int) -> bool:
        progress.advance(1)
        if token_id in requests[index].sampling.stop_token_ids:
            return False
        streams[index].push(token_id)
        return streams[index].stopped

    begun = time.perf_counter()
    generations = generate(
        session,
        [each.token_ids for each in requests],
        [each.sampling for each in requests],
        on_token,
    )
    seconds = time.perf_counter() - begun
    for stream in streams:
        stream.finish()
    num_tokens = sum(len(generation.token_ids) for generation in generations)
    progress.note(f"{num_tokens} tokens in {seconds:.2f} s, {num_tokens / seconds:.1f} a second")
    return generations


def _raise_failures(requests: Sequence[Request], outcomes: Sequence[Sequence[Outcome]]) -> None:
    """Raise VerificationError with every expectation that does not hold, prompt by prompt."""
    facts = []
    for each, found in zip(requests, outcomes, strict=True):
        faults = [fault for outcome in found for fault in outcome.faults]
        if faults:
            facts.append(f"`smoke.prompts[{each.number}]`, {each.prompt.text!r}:")
            facts += [f"  {fault}" for fault in faults]
    if facts:
        failed = sum(bool(outcome.faults) for found in outcomes for outcome in found)
        total = sum(len(found) for found in outcomes)
        raise VerificationError(
            f"{failed} of {total} expectations of the smoke test do not hold",
            facts=facts,
            hint="a wrong weight shows here; where the model is right, correct `smoke.prompts`",
        )


def _record(
    plan: Plan,
    executed_by: Mapping[str, str],
    requests: Sequence[Request],
    entries: Sequence[Json],
) -> dict[str, Json]:
    """The generation record: what was asked, what came, what computed it. No timings."""
    smoke = plan.recipe.smoke
    return {
        "executed_by": dict(executed_by),
        "sampling": {
            "temperature": smoke.temperature,
            "top_p": smoke.top_p,
            "seed": smoke.seed,
            "end_token_ids": sorted(requests[0].sampling.stop_token_ids),
        },
        "prompts": list(entries),
    }


def _entry(
    request: Request, text: str, generation: Generation, outcomes: Sequence[Outcome]
) -> dict[str, Json]:
    return {
        "prompt": request.prompt.text,
        "prompt_token_ids": list(request.token_ids),
        "max_new_tokens": request.sampling.max_new_tokens,
        "stop": list(request.prompt.stop),
        "text": text,
        "token_ids": list(generation.token_ids),
        "stop_reason": generation.stop_reason,
        "expectations": [outcome.as_json() for outcome in outcomes],
    }


def summary(facts: Mapping[str, Json]) -> str:
    """For example `2 prompts, all 3 expectations hold, 32 tokens by onnxruntime 1.32.0 on cpu`."""
    by, num_expectations = facts["executed_by"], facts["num_expectations"]
    held = f"all {num_expectations} expectations hold" if num_expectations else "nothing expected"
    return (
        f"{facts['num_prompts']} prompts, {held}, {facts['num_tokens']} tokens by "
        f"{by['backend']} {by['version']} on {by['device']}"
    )


STAGE = Stage(
    name="smoke",
    version=1,
    inputs=("download", "convert", "build"),
    settings=settings,
    run=run,
    summary=summary,
)
