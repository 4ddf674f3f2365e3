"""The built engine's own config.json against what was asked: the first proof after a build.

Source: TensorRT-LLM 1.x `tensorrt_llm/builder.py` (EngineConfig.to_dict, build),
`models/modeling_utils.py` (PretrainedConfig.to_dict, SpeculativeDecodingMode),
`commands/build.py` (what becomes of the flags).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact import Json
from pipeline.checkpoint.strict_json import parse_object
from pipeline.engines.trtllm.request import LORA, SPECULATIVE_MODES, BuildRequest
from pipeline.errors import VerificationError
from pipeline.trtllm.options import options
from pipeline.trtllm.rules import SURENESS, Rule

OWN_CONFIG_NAME = "config.json"
"""TensorRT-LLM's own record of an engine; ours is `engine.json`."""

NOT_WRITTEN: Mapping[str, str] = {
    "log_level": "it decides the log alone",
    "workers": "it decides how many ranks are built at a time",
}
"""Options that no engine's config.json has, and why nothing is lost by it."""

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """An option that ended otherwise than asked. `found` is None too where it is not there."""

    name: str
    asked: Json
    found: Json


def read_engine_config(folder: Path) -> dict[str, Json]:
    """TensorRT-LLM's config.json of an engine. Raises VerificationError where it is not one."""
    path = folder / OWN_CONFIG_NAME
    if not path.is_file():
        raise VerificationError(
            f"the build wrote no `{OWN_CONFIG_NAME}`", hint="see the lines of its log"
        )
    document = parse_object(path.read_bytes(), OWN_CONFIG_NAME)
    build = document.get("build_config")
    plugins = build.get("plugin_config") if isinstance(build, dict) else None
    if not (isinstance(plugins, dict) and isinstance(document.get("pretrained_config"), dict)):
        raise VerificationError(
            f"`{OWN_CONFIG_NAME}` is not of a TensorRT-LLM 1.2 engine: it must have "
            "`pretrained_config`, `build_config` and `plugin_config` in that"
        )
    return document


def check_version(document: Mapping[str, Json], installed: str) -> None:
    """Raise VerificationError where another TensorRT-LLM built it than the metadata names."""
    if document.get("version") != installed:
        raise VerificationError(
            f"the engine was built by TensorRT-LLM {document.get('version')}, but the installed "
            f"package is {installed}",
            hint="the `trtllm-build` on PATH is not of the environment that runs trtllm-pack: "
            "run both from one",
        )


def check_options(
    document: Mapping[str, Json],
    request: BuildRequest,
    rules: Sequence[Rule] = (),
    log: Sequence[str] = (),
) -> dict[str, str]:
    """Every option of the request against the engine; those that are not written, with reasons.

    Raises VerificationError with each option that differs, the rule that explains it, and the lines
    of the log that may.
    """
    unwritten = _unwritten(request)
    differences = [
        difference
        for name, asked in request.options.items()
        if name not in unwritten
        if (difference := _difference(document, request, name, asked)) is not None
    ]
    if differences:
        names = ", ".join(f"`engine.{difference.name}`" for difference in differences)
        raise VerificationError(
            f"the engine was not built as asked: {names}",
            facts=[*(_told(difference, rules) for difference in differences), *log],
            hint="set these options to what TensorRT-LLM makes of them, or remove what makes it "
            "change them",
        )
    return unwritten


def _unwritten(request: BuildRequest) -> dict[str, str]:
    found = {name: why for name, why in NOT_WRITTEN.items() if name in request.options}
    if request.options.get("lora_plugin") is None:
        found |= {name: "there is no LoRA plugin" for name in LORA if name in request.options}
    if request.options.get("logits_dtype") is None:
        found["logits_dtype"] = "it is the checkpoint's"
    return found


def _difference(
    document: Mapping[str, Json], request: BuildRequest, name: str, asked: Json
) -> Difference | None:
    found = _found(document, name)
    if found is _ABSENT:
        return Difference(name, asked, None)
    expected = _expected(request, name, asked)
    if name == "kv_cache_type":
        expected, found = str(expected).lower(), str(found).lower()
    if isinstance(expected, bool) != isinstance(found, bool) or expected != found:
        return Difference(name, asked, found)
    return None


def _found(document: Mapping[str, Json], name: str) -> Json:
    """What the engine says of an option; `_ABSENT` where it says nothing."""
    build = document["build_config"]
    if name == "logits_dtype":
        return document["pretrained_config"].get(name, _ABSENT)
    if name == "fast_build":
        return build["plugin_config"].get("manage_weights", _ABSENT)
    if name in LORA:
        return (build.get("lora_config") or {}).get(name, _ABSENT)
    part = build["plugin_config"] if options()[name].part == "plugin" else build
    return part.get(name, _ABSENT)


def _expected(request: BuildRequest, name: str, asked: Json) -> Json:
    """What the engine must say: what was asked, as TensorRT-LLM writes it.

    With speculative decoding, `max_seq_len` counts the draft tokens as well (`builder.build`).
    """
    mode = request.options.get("speculative_decoding_mode")
    if name == "speculative_decoding_mode":
        return SPECULATIVE_MODES[asked]
    if name == "max_seq_len" and mode is not None:
        return asked + request.options.get("max_draft_len", 0)
    return asked


def _told(difference: Difference, rules: Sequence[Rule]) -> str:
    asked, found = difference.asked, difference.found
    told = f"`{difference.name}`: asked {_spelt(asked)}, found {_spelt(found)}"
    key = f"engine.{difference.name}"
    nested = f"engine.attention.{difference.name}"
    for rule in rules:
        if rule.effect == "changed" and rule.keys and rule.keys[0] in {key, nested}:
            told += f"; rule `{rule.name}`: {rule.source} ({SURENESS[rule.sure]})"
    return told


def _spelt(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def check_model(
    document: Mapping[str, Json], config: Mapping[str, Json], request: BuildRequest
) -> None:
    """The engine's model is the checkpoint's: every key of its config.json, nested ones included.

    TensorRT-LLM adds keys of its own. `logits_dtype` is the request's where it has one. Raises
    VerificationError with all that differ.
    """
    found = document["pretrained_config"]
    is_asked = request.options.get("logits_dtype") is not None
    facts = []
    for key, value in config.items():
        if key != "logits_dtype" or not is_asked:
            facts += _model_differences(key, value, found.get(key, _ABSENT))
    if facts:
        raise VerificationError(
            "the engine's model is not the checkpoint's",
            facts=facts,
            hint="`trtllm-pack doctor` compares the installed TensorRT-LLM with what is known of "
            "1.2",
        )


def _model_differences(key: str, value: Json, found: Json) -> list[str]:
    if found is _ABSENT:
        return [f"`{key}`: {_spelt(value)} in the checkpoint, not there in the engine"]
    if isinstance(value, Mapping) and isinstance(found, Mapping):
        return [
            fact
            for name, part in value.items()
            for fact in _model_differences(f"{key}.{name}", part, found.get(name, _ABSENT))
        ]
    if value == found:
        return []
    return [f"`{key}`: {_spelt(value)} in the checkpoint, {_spelt(found)} in the engine"]
