"""Options of a recipe against the facts: names, flags, types, values, defaults; none is missing."""

from __future__ import annotations

from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest

from pipeline.answers.explanations import OPTION_GROUPS
from pipeline.recipe.build_options import BuildOptions
from pipeline.recipe.plugin_options import PluginOptions
from pipeline.recipe.schema import TRTLLM_KEYS, Attention, EngineSettings
from pipeline.trtllm.facts import facts
from pipeline.trtllm.left_out import DECIDED, ELSEWHERE, GONE
from pipeline.trtllm.options import Option, options

OWN = {
    "backend": "which engine backend builds",
    "device": "what only the backend `onnxruntime` reads",
    "targets": "on which GPUs the engine must run",
    "attention": "holds `context_fmha` and what must be proved",
    "tensorrt": "what only the backend `tensorrt` reads",
    "use_timing_cache": "timing caches are kept in the store",
    "build_timeout_s": "`trtllm-build` has no limit",
    "kv_cache_tokens": "the run time takes what memory there is",
}
"""Keys of `engine` that are no option of TensorRT-LLM."""

OTHER_DEFAULTS = {
    "max_batch_size": "2048 sequences take more memory than small GPUs have",
    "max_seq_len": "deduced from the model it may be millions of tokens",
    "max_num_tokens": "worked out of the other limits, where 8192 ignores them",
    "kv_cache_type": "what TensorRT-LLM takes for nothing, said",
    "profiling_verbosity": "an engine that can be inspected shows its attention layers",
    "use_fp8_context_fmha": "TensorRT-LLM turns it off without FP8, so that a default never holds",
    "lora_ckpt_source": "the form that adapters have nearly always",
}
"""Option whose default is not TensorRT-LLM's -> why."""

NOTHING = (None, (), [], "NONE")

FIELDS: dict[str, Any] = {**EngineSettings.model_fields, **Attention.model_fields}
SHARED = [option for option in options().values() if option.name in FIELDS]


def values_of(annotation: Any) -> set[Any] | None:
    """All that a field may be, where that is a list; None for numbers and texts."""
    if annotation is bool:
        return {True, False}
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    parts = [part for part in get_args(annotation) if part is not NoneType]
    found = [values_of(part) for part in parts]
    if not found or None in found or get_origin(annotation) in (tuple, list):
        return None
    union: set[Any] = set().union(*(part for part in found if part is not None))
    return union | ({None} if NoneType in get_args(annotation) else set())


def test_every_option_is_a_key_or_has_its_reason() -> None:
    left = {name for name in options() if name not in FIELDS}
    assert left <= DECIDED.keys() | ELSEWHERE.keys()
    assert not set(GONE) & set(options())
    assert not (set(GONE) | set(DECIDED)) & (set(FIELDS) | set(ELSEWHERE))


def test_every_reason_is_of_something_that_is_not_a_key() -> None:
    for table in (DECIDED, GONE):
        for name, told in table.items():
            assert name not in FIELDS
            assert told
            assert not told.endswith(".")
    known = set(options()) | {"lora_dir", "plugin_config", "build_config", "log_level"}
    assert set(DECIDED) <= known | {"paged_kv_cache", "gather_all_token_logits", "manage_weights"}


def test_every_key_is_an_option_or_ours() -> None:
    assert {name for name in EngineSettings.model_fields if name not in options()} == set(OWN)
    assert set(ELSEWHERE) - {"context_fmha"} <= {*options(), "checkpoint_dir", "dtype"}


def test_plugin_options_are_fields_of_the_plugin_config() -> None:
    assert set(PluginOptions.model_fields) <= set(facts()["plugin_config"])
    build = {name for name in BuildOptions.model_fields if name not in PluginOptions.model_fields}
    known = {name for name, option in options().items() if option.part != "plugin"}
    assert build - set(OWN) <= known


@pytest.mark.parametrize("option", SHARED, ids=lambda option: option.name)
def test_an_option_has_the_values_of_tensorrt_llm(option: Option) -> None:
    annotation = FIELDS[option.name].annotation
    if option.form == "list":
        assert get_origin(annotation) is tuple
        return
    own = values_of(annotation)
    if option.form in ("switch", "on_off"):
        assert own == {True, False}
    elif option.values is None:
        assert own is None
        assert "int" in repr(annotation)
    else:
        assert own is not None
        assert own - {None} == set(option.values) - {None}
        assert (None in own) == (None in option.values or option.name in NULLABLE)


NULLABLE = {"logits_dtype", "speculative_decoding_mode"}
"""Flags that may be left away."""


@pytest.mark.parametrize("option", SHARED, ids=lambda option: option.name)
def test_a_default_is_tensorrt_llms_or_has_its_reason(option: Option) -> None:
    own, theirs = FIELDS[option.name].default, option.default
    same = own == theirs or (own in NOTHING and theirs in NOTHING)
    assert same != (option.name in OTHER_DEFAULTS)


def test_flags_are_those_of_the_command() -> None:
    aliases = set(facts()["trtllm_build_flag_details"]["aliases"])
    found = {option.flag for option in options().values() if option.flag}
    assert found == set(facts()["trtllm_build_flags"]) - aliases


@pytest.mark.parametrize("option", SHARED, ids=lambda option: option.name)
def test_every_value_can_be_written_on_the_command_line(option: Option) -> None:
    if option.flag is None:
        return
    for value in option.values or (FIELDS[option.name].default,):
        arguments = option.arguments([value] if option.form == "list" else value)
        assert all(isinstance(word, str) for word in arguments)
        assert arguments[:1] in ([], [option.flag])
        assert "None" not in arguments
        assert "True" not in arguments


def test_groups_hold_every_option_once() -> None:
    grouped = [name for names in OPTION_GROUPS.values() for name in names]
    assert len(grouped) == len(set(grouped))
    limits = {"max_batch_size", "max_input_len", "max_seq_len", "attention.context_fmha"}
    assert set(grouped) == TRTLLM_KEYS | limits
