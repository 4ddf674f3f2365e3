"""Problems of a plan beside those of families and backends: tools, lengths, tokenizer, smoke."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.artifact import Json
from pipeline.engines.engine import Engine
from pipeline.errors import MachineError, PipelineError, Problem
from pipeline.hardware import Hardware
from pipeline.recipe.schema import Recipe
from pipeline.sources import AnySource
from pipeline.sources.remote_code import check_code
from pipeline.sources.selection import (
    TOKENIZER_CONFIG_NAME,
    TOKENIZER_NAMES,
    remote_code_references,
)

_WINDOW_SOURCE = (
    "TensorRT-LLM `runtime/generation.py`: the window is an option of each run, "
    "`max_attention_window_size`, and the whole sequence without it (read at 1.3.0rc3, soon after "
    "1.2)"
)

_CACHE_SOURCE = "TensorRT-LLM `gptAttentionPlugin.cpp` (read at 1.3.0rc3, soon after 1.2)"


def backend_problems(engine: Engine, hardware: Hardware) -> list[Problem]:
    """The engine backend is not usable here: a problem of the stage `build` alone."""
    reason = engine.why_unavailable(hardware)
    if reason is None:
        return []
    return [
        Problem(
            "build",
            f"the engine backend `{engine.name}` is not usable: {reason}",
            hint="`trtllm-pack doctor` says what this machine can build and run",
            kind=MachineError,
        )
    ]


def length_problems(window: int | None, longest: int | None, recipe: Recipe) -> list[Problem]:
    """Sequences beyond what an engine of TensorRT-LLM computes as the model does.

    `window`: the smallest sliding window; the engine attends to all tokens, which is the same up to
    that length. `longest`: the model does otherwise beyond, in a way of its own. None: no such.
    """
    asked = recipe.engine.max_seq_len
    problems = []
    if window is not None and asked > window:
        problems.append(
            Problem(
                "build",
                f"`engine.max_seq_len` is {asked}, but the model attends to a sliding window of "
                f"{window} tokens, which engines of TensorRT-LLM do not apply",
                hint=f"set `engine.max_seq_len: {window}` or less, or use the backend `tensorrt` "
                "or `onnxruntime`",
                facts=(_WINDOW_SOURCE,),
            )
        )
    if longest is not None and asked > longest:
        problems.append(
            Problem(
                "build",
                f"`engine.max_seq_len` is {asked}, but beyond {longest} tokens the model changes "
                "its positions or its attention, which the engine does not",
                hint=f"set `engine.max_seq_len: {longest}` or less",
            )
        )
    return problems


def has_tokenizer(source: AnySource) -> bool:
    """Whether there is a tokenizer that can be loaded: a vocabulary, and no code in its place."""
    names = (source.listing.find(name) for name in TOKENIZER_NAMES)
    return any(names) and not tokenizer_problems(source)


def tokenizer_problems(source: AnySource) -> list[Problem]:
    """A tokenizer that is Python code of the source cannot be had: the code is never executed.

    (What code a `config.json` points to is the family's to judge, see `general_keys`.)
    """
    if source.listing.find(TOKENIZER_CONFIG_NAME) is None:
        return []
    texts = {TOKENIZER_CONFIG_NAME: source.read_text(TOKENIZER_CONFIG_NAME)}
    references = remote_code_references(texts)
    if not references:
        return []
    return [
        Problem(
            "smoke",
            "the tokenizer needs Python code of the source, which is never executed",
            facts=tuple(references),
            # What a tokenizer does is compared with nothing, and servers of the release need it.
            hint="`trtllm-pack convert` works without a tokenizer; for a release, point `source` "
            "to a copy whose tokenizer transformers loads by itself (`source.remote_code` is for "
            "the model alone: no comparison would prove a tokenizer)",
        )
    ]


def code_problems(recipe: Recipe, source: AnySource, config: Mapping[str, Json]) -> list[Problem]:
    """Code of the source must be the one that the recipe names, and there must be a use for it."""
    named = recipe.source.remote_code
    if not named:
        return []
    try:
        check_code(named, config, source.read_text)
    except PipelineError as error:
        return [Problem.of("convert", error)]
    if recipe.verify.logits:
        return []
    return [
        Problem(
            "convert",
            "`source.remote_code` is given, but nothing executes it: `verify.logits` is false",
            hint="set `verify.logits: true`, or remove `source.remote_code`",
        )
    ]


def smoke_problems(recipe: Recipe, reason: str | None) -> list[Problem]:
    """The smoke test must be executable as the recipe wants it."""
    problems = []
    if recipe.smoke.require_engine and reason is not None:
        problems.append(
            Problem(
                "smoke",
                f"`smoke.require_engine` is true, but the engine cannot run here: {reason}",
                hint="run on a machine with a target GPU, or set `smoke.require_engine: false`",
                kind=MachineError,
            )
        )
    for number, prompt in enumerate(recipe.smoke.prompts):
        wanted = prompt.max_new_tokens or recipe.smoke.max_new_tokens
        if wanted > 1 and recipe.engine.kv_cache_type == "disabled":
            problems.append(
                Problem(
                    "smoke",
                    f"`smoke.prompts[{number}]` asks for {wanted} new tokens, but with "
                    "`engine.kv_cache_type: disabled` an engine generates one",
                    hint="remove `kv_cache_type`, for `paged`, or set `smoke.max_new_tokens: 1`",
                    facts=(_CACHE_SOURCE,),
                )
            )
        if wanted >= recipe.engine.max_seq_len:
            problems.append(
                Problem(
                    "smoke",
                    f"`smoke.prompts[{number}]` asks for {wanted} new tokens, but "
                    f"`engine.max_seq_len` is {recipe.engine.max_seq_len}",
                    hint="ask for fewer new tokens",
                )
            )
    return problems
