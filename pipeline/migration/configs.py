"""JSON instead of command lines: a `--build_config` file, or the `config.json` of an engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from pipeline.artifact import Json
from pipeline.errors import UsageError
from pipeline.migration.build_rows import trtllm_build
from pipeline.migration.converter_rows import CONVERTER
from pipeline.migration.draft import Draft
from pipeline.migration.programs import Given, Invocation, Kind
from pipeline.migration.rows import Row, Table
from pipeline.migration.shell_script import Command
from pipeline.migration.shell_values import Field
from pipeline.recipe.schema import TRTLLM_KEYS
from pipeline.trtllm.options import options

_NAMES = {
    "precision": "dtype",
    "tensor_parallel": "tp_size",
    "pipeline_parallel": "pp_size",
    "manage_weights": "fast_build",
    "quant_algo": "qformat",
    "kv_cache_quant_algo": "kv_cache_dtype",
}
"""What JSON files call otherwise than flags do."""

_NESTED = ("plugin_config", "lora_config", "mapping", "quantization")
_CHECKPOINT = frozenset({
    "dtype", "precision", "tensor_parallel", "pipeline_parallel", "tp_size", "pp_size", "cp_size",
    "moe_tp_size", "moe_ep_size", "use_parallel_embedding", "embedding_sharding_dim",
    "logits_dtype", "quant_algo", "kv_cache_quant_algo",
})  # fmt: skip
"""Names of a checkpoint's part that a recipe has; the source says the others."""

_MODES = {1: "NONE", 2: "draft_tokens_external", 4: "medusa", 8: "lookahead_decoding",
          16: "explicit_draft_tokens", 32: "eagle"}  # fmt: skip
"""`SpeculativeDecodingMode`, which JSON has as a number. Source: TensorRT-LLM 1.2, `models/
modeling_utils.py`."""

_IGNORED = ("version", "architecture")


def read_config(text: str) -> Mapping[str, Json]:
    """The object of a JSON file. Raises UsageError where it is not one."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the JSON cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise UsageError("the JSON is not an object", hint="give a `--build_config` file")
    return document


def take_config(draft: Draft, document: Mapping[str, Json]) -> Kind:
    """Take every name of a config; what program's defaults hold for what is not there."""
    if "builder_config" in document:
        for part in ("builder_config", "plugin_config"):
            _take_part(draft, part, document.get(part), is_checkpoint=False)
        return "old build"
    if "pretrained_config" in document or "build_config" in document:
        _take_part(
            draft, "pretrained_config", document.get("pretrained_config"), is_checkpoint=True
        )
        _take_part(draft, "build_config", document.get("build_config"), is_checkpoint=False)
        return "build"
    if "architecture" in document or "architectures" in document:
        raise UsageError(
            "the JSON is the config of a model, not of a build",
            hint="give the `--build_config` file, or the `config.json` of the engine",
        )
    if not document.keys() & (options().keys() | {"max_output_len"}):
        raise UsageError("no key of the JSON is an option of `trtllm-build`")
    _take_part(draft, "build_config", dict(document), is_checkpoint=False)
    return "build"


def _take_part(draft: Draft, part: str, values: Json, *, is_checkpoint: bool) -> None:
    found = _given(part, values, is_checkpoint=is_checkpoint)
    first = len(draft.answers) + sum(map(len, draft.facts.values()))
    given = [replace(each, place=place) for place, each in enumerate(found, first)]
    nowhere = Command((), 0, Field("."))
    kind: Kind = "convert" if is_checkpoint else "build"
    draft.take(Invocation(kind, part, None, nowhere, tuple(given), ()))


def _given(part: str, values: Json, *, is_checkpoint: bool) -> list[Given]:
    """The names of a part as the flags that they stand for; what is null was not given."""
    if not isinstance(values, dict):
        return []
    found: list[Given] = []
    for name, value in values.items():
        if name in _NESTED:
            found += _given(part, value, is_checkpoint=is_checkpoint)
        elif is_checkpoint and name not in _CHECKPOINT:
            continue
        else:
            found += _one(part, name, value)
    return found


def _one(part: str, name: str, value: Json) -> list[Given]:
    spelt = _NAMES.get(name, name)
    option = options().get(spelt)
    if spelt == "speculative_decoding_mode":
        value = _MODES.get(value, value) if isinstance(value, int) else value
        value = None if value == "NONE" else value
    if value is None and (option is None or option.form != "dtype" or spelt not in TRTLLM_KEYS):
        return []
    if name == "context_fmha_type":
        spelt, value = "context_fmha", value != 0
    texts = _texts(value)
    if not texts or name in _IGNORED:
        return []
    row = _row(spelt)
    if part == "builder_config" and (row is None or row.verdict == "no effect"):
        return []  # sizes of the model, which the source says
    fields = tuple(Field(text) for text in texts)
    return [Given(part, name, spelt, row, fields, 0)]


def _row(name: str) -> Row | None:
    tables: tuple[Table, ...] = (trtllm_build(), CONVERTER)
    if name in _CHECKPOINT | {"qformat", "kv_cache_dtype"}:
        tables = tables[::-1]
    return next((table[name] for table in tables if name in table), None)


def _texts(value: Json) -> list[str] | None:
    """A value as the words of a command line; None for objects, which no flag takes."""
    if isinstance(value, bool) or value is None:
        return ["enable" if value else "disable"]
    if isinstance(value, list):
        return [str(item) for item in value]
    return None if isinstance(value, dict) else [str(value)]
