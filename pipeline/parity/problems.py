"""Why logits could not be compared: problems of the stage `verify`, found before any work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from pipeline.artifact import Json
from pipeline.checkpoint.huggingface import CONFIG_NAME
from pipeline.checkpoint.strict_json import printable
from pipeline.errors import MachineError, Problem
from pipeline.graph.config import graph_problems
from pipeline.parity.reference import EXTRA, why_no_reference
from pipeline.recipe.verify_section import Verify

WITHOUT = "set `verify.logits: false`; the round trip is verified without it"


def logits_problems(
    settings: Verify,
    source: Mapping[str, Json],
    target: Mapping[str, Json],
    *,
    has_tokenizer: bool,
    has_code: bool = False,
) -> list[Problem]:
    """All reasons, for the config.json of the source and of the checkpoint; none where not asked.

    `has_code`: the recipe allows the source's own code to be executed, which brings its classes.

    Imports transformers only where the recipe asks for logits and all packages are there.
    """
    if not settings.logits:
        return []
    found = [*_size_problems(settings, target), *_graph_problems(settings, target)]
    if settings.texts and not has_tokenizer:
        message = "`verify.texts` is given, but the source has no tokenizer"
        found.append(Problem("verify", message, "remove `verify.texts`: random tokens need none"))
    missing = why_no_reference()
    if missing is not None:
        message = f"`verify.logits` compares with transformers, but {missing}"
        hint = f"`pip install 'trtllm-pack[{EXTRA}]'` (torch for the CPU is enough), or {WITHOUT}"
        return [*found, Problem("verify", message, hint, MachineError)]
    return found if has_code else [*found, *_class_problems(source)]


def _size_problems(settings: Verify, target: Mapping[str, Json]) -> list[Problem]:
    found, num_layers = [], target["num_hidden_layers"]
    if settings.layers != "all" and settings.layers > num_layers:
        message = f"`verify.layers` is {settings.layers}, but the model has {num_layers} layers"
        found.append(Problem("verify", message, "set `verify.layers: all`"))
    positions = target.get("max_position_embeddings")
    if positions is not None and settings.tokens > positions:
        message = f"`verify.tokens` is {settings.tokens}, but the model has {positions} positions"
        found.append(Problem("verify", message, f"set `verify.tokens: {positions}` or less"))
    return found


def _graph_problems(settings: Verify, target: Mapping[str, Json]) -> list[Problem]:
    """What the decoder graph cannot express, told of this stage. Its length is checked above."""
    return [
        replace(
            problem,
            stage="verify",
            message=f"`verify.logits` needs the decoder graph: {problem.message}",
            hint=WITHOUT,
        )
        for problem in graph_problems(target, min(settings.tokens, _positions(target)))
    ]


def _positions(target: Mapping[str, Json]) -> int:
    return int(target.get("max_position_embeddings") or 1)


def _class_problems(source: Mapping[str, Json]) -> list[Problem]:
    """transformers must have a class of its own: code of the source is never executed."""
    model_type = source.get("model_type")
    if isinstance(model_type, str) and model_type in _causal_models():
        return _config_problems(model_type, source)
    message = (
        f"`verify.logits` compares with transformers, which has no class for the `model_type` "
        f"`{printable(str(model_type))}`"
    )
    code = source.get("auto_map")
    facts = (
        [f"`config.json` points to Python code of the source, which is never executed: `{path}`"]
        if isinstance(code, dict) and (path := printable(str(code.get("AutoModelForCausalLM"))))
        else []
    )
    hint = f"read that code and name its files in `source.remote_code`, or {WITHOUT}"
    return [Problem("verify", message, hint if facts else WITHOUT, facts=tuple(facts))]


def _config_problems(model_type: str, source: Mapping[str, Json]) -> list[Problem]:
    """transformers' class for a config must take this one."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.utils.logging import set_verbosity_error

    set_verbosity_error()  # what is wrong is raised; its advice would stand among our events
    try:
        CONFIG_MAPPING[model_type].from_dict(dict(source))
    except Exception as error:  # noqa: BLE001 - each class has its own checks, and errors
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        message = f"`verify.logits` compares with transformers, which refuses `{CONFIG_NAME}`"
        facts = tuple(printable(line, 300) for line in lines)
        return [Problem("verify", message, WITHOUT, facts=facts)]
    return []


def _causal_models() -> frozenset[str]:
    """The `model_type`s for which the installed transformers has a decoder."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # read at import
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return frozenset(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
