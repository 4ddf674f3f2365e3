"""What this project asks of `trtllm-build` migrates to the settings that it was asked with."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pipeline.engines.trtllm.request import BuildRequest, build_request
from pipeline.migration.draft import Draft
from pipeline.migration.migrate import Options, migrate
from pipeline.migration.settle_limits import settle_limits
from pipeline.recipe.build_options import BuildOptions
from pipeline.recipe.engine_rules import refused_options
from pipeline.recipe.load import load_recipe
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.options import options

LENGTHS = st.integers(1, 20000)
MODULES = ("attn_q", "attn_k", "attn_v", "attn_dense", "mlp_gate")
NOT_ASKED = {
    # They need a quantised checkpoint, or heads that draft; both are not in this version.
    "use_fp8_context_fmha", "fuse_fp4_quant", "norm_quant_fusion", "gemm_swiglu_plugin",
    "low_latency_gemm_plugin", "low_latency_gemm_swiglu_plugin", "fp8_rowwise_gemm_plugin",
    # The run time takes nothing else.
    "remove_input_padding", "gpt_attention_plugin", "streamingllm",
    # They depend on others, and are made below, or are not TensorRT-LLM's.
    "kv_cache_type", "lora_plugin", "lora_target_modules", "max_num_tokens", "opt_num_tokens",
    "speculative_decoding_mode", "max_draft_len", "user_buffer", "reduce_fusion", "workers",
    "use_timing_cache", "build_timeout_s", "kv_cache_tokens", "dora_plugin",
}  # fmt: skip


def _values(name: str) -> st.SearchStrategy[Any]:
    """Values of an option of a build."""
    option = options().get(name)
    field = BuildOptions.model_fields[name]
    if field.annotation is bool:
        return st.booleans()
    if option is not None and option.values is not None:
        # Plugins compute in the type of the checkpoint; `int32` and FP8 are none.
        types = ("float16", "bfloat16", "float32", "int32", "fp8", "nvfp4")
        is_type = option.form == "dtype"
        allowed = [value for value in option.values if not (is_type and value in types)]
        return st.sampled_from([*allowed, field.default])
    assert int in (field.annotation, *get_args(field.annotation)), name
    return st.sampled_from([16, 32, 64, 128]) if name == "tokens_per_block" else st.integers(1, 64)


OPTIONS = st.fixed_dictionaries(
    {},
    optional={name: _values(name) for name in BuildOptions.model_fields if name not in NOT_ASKED},
)
LIMITS = st.fixed_dictionaries(
    {"max_batch_size": st.integers(1, 512), "max_input_len": LENGTHS, "room": LENGTHS},
    optional={
        "max_num_tokens": st.integers(128, 20000),
        "opt_num_tokens": st.integers(1, 128),
        "workers": st.integers(1, 8),
        "reduce_fusion": st.booleans(),
        "lora": st.booleans(),
        "draft": st.integers(1, 8),
        "unfused": st.just(True),
    },
)
CONFIGS = st.fixed_dictionaries(
    {"tp_size": st.sampled_from([1, 2, 4]), "pp_size": st.sampled_from([1, 2])}
)
DTYPES = st.sampled_from(["float16", "bfloat16"])


def _settings(limits: dict[str, Any], chosen: dict[str, Any]) -> EngineSettings:
    """Settings that TensorRT-LLM's rules between options do not refuse."""
    engine: dict[str, Any] = {**chosen, **limits}
    engine["max_seq_len"] = engine["max_input_len"] + engine.pop("room")
    if engine.pop("lora", False):
        engine |= {"lora_plugin": "auto", "lora_target_modules": MODULES[: limits["room"] % 5 + 1]}
    if draft := engine.pop("draft", 0):
        engine |= {"speculative_decoding_mode": "draft_tokens_external", "max_draft_len": draft}
    if engine.pop("unfused", False):
        engine["attention"] = {"context_fmha": False, "require_fused": False}
        engine["use_paged_context_fmha"] = False
    for finding in refused_options(engine):
        for key in finding.rule.keys:
            engine.pop(key.removeprefix("engine."), None)
        engine["max_seq_len"] = limits["max_input_len"] + limits["room"]
        engine["max_input_len"] = limits["max_input_len"]
        engine["max_batch_size"] = limits["max_batch_size"]
    assume(not refused_options(engine))
    return EngineSettings.model_validate(engine)


def _fitting(limits: dict[str, Any], layout: dict[str, int]) -> dict[str, Any]:
    """Without what TensorRT-LLM turns off by itself where there is one tensor-parallel rank."""
    is_single = layout["tp_size"] == 1
    return {key: limits[key] for key in limits if not (is_single and key == "reduce_fusion")}


def _request(settings: EngineSettings, dtype: str, layout: dict[str, int]) -> BuildRequest:
    world_size = layout["tp_size"] * layout["pp_size"]
    mapping = {**layout, "world_size": world_size, "cp_size": 1}
    mapping |= {"moe_tp_size": layout["tp_size"], "moe_ep_size": 1}
    config = {"dtype": dtype, "mapping": mapping, "use_parallel_embedding": False}
    return build_request(settings, config)


def _migrated(text: str, folder: Path) -> EngineSettings:
    migration = migrate(text, Options(source="owner/model"))
    assert migration.refusals == ()
    assert migration.open_answers == []
    path = folder / "recipe.yaml"
    path.write_text(migration.recipe, encoding="utf-8")
    return load_recipe(path).recipe.engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipes")


@examples(max_examples=60)
@given(LIMITS, OPTIONS, DTYPES, CONFIGS)
def test_argv_of_a_request_migrates_to_the_same_request(
    folder: Path,
    limits: dict[str, Any],
    chosen: dict[str, Any],
    dtype: str,
    layout: dict[str, int],
) -> None:
    settings = _settings(_fitting(limits, layout), chosen)
    asked = _request(settings, dtype, layout)
    argv = asked.argv(
        Path("ckpt"), Path("out"), input_timing_cache=None, output_timing_cache=Path("cache")
    )
    convert = f"python3 convert_checkpoint.py --model_dir a/b --output_dir ckpt --dtype {dtype}"
    sizes = " ".join(f"--{name} {size}" for name, size in layout.items())
    found = _migrated(f"{convert} {sizes}\n{shlex.join(argv)}", folder)
    assert _request(found, dtype, layout) == asked
    assert found.attention == settings.attention


@examples(max_examples=60)
@given(LIMITS, OPTIONS, DTYPES, CONFIGS)
def test_json_of_a_request_migrates_to_the_same_request(
    folder: Path,
    limits: dict[str, Any],
    chosen: dict[str, Any],
    dtype: str,
    layout: dict[str, int],
) -> None:
    # The JSON of a request does not hold the modules of adapters, which are a flag of the command.
    fitting = _fitting({**limits, "lora": False}, layout)
    asked = _request(_settings(fitting, chosen), dtype, layout)
    document = {
        "version": "1.2.1",
        "pretrained_config": {"dtype": dtype, "mapping": {**layout, "cp_size": 1}},
        "build_config": asked.build_config(),
    }
    found = _migrated(json.dumps(document), folder)
    same = _request(found, dtype, layout)
    assert same.build_config() == asked.build_config()


def test_without_flags_the_settings_are_the_defaults() -> None:
    draft = Draft()
    settle_limits(draft, "build")
    named = {key.removeprefix("engine."): value for key, value in draft.values.items()}
    assert EngineSettings(**named) == EngineSettings()
