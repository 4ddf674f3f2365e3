"""Packages without an engine: what becomes of every recipe key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.recipe.schema import Recipe
from pipeline.recipe.sections import sections
from pipeline.release.pytorch_carry import Carriage, carry, serve_yaml
from pipeline.release.pytorch_folder import quantization_of
from pipeline.release.pytorch_options import ALWAYS, RANK_KEYS, ROWS, Carried, Only
from pipeline.trtllm.facts import facts

KEYS = facts()["serve_options"]["keys"]
PYTHON_TYPES = {"int": int, "bool": bool, "float": float, "str": str}


def recipe(**changes: Any) -> Recipe:
    """A recipe of the kind; `changes` by section, `require_fused` off unless said."""
    engine = {"attention": {"require_fused": False}, **changes.pop("engine", {})}
    package = {"kind": "pytorch", **changes.pop("package", {})}
    document = {"name": "x", "source": {"repo": "a/b"}, "engine": engine, "package": package}
    return Recipe.model_validate({**document, **changes})


def carried(**changes: Any) -> Carriage:
    return carry(recipe(**changes))


def flat(options: Any, path: str = "") -> dict[str, Any]:
    found = {}
    for key, value in options.items():
        found |= flat(value, f"{path}{key}.") if isinstance(value, dict) else {path + key: value}
    return found


def leaf_keys() -> set[str]:
    """Every key of a recipe that has a value of its own, but `name` and `source`."""
    found = {
        ".".join((*path, key)) for path, model in sections().items() for key in model.model_fields
    }
    inner = {".".join(path) for path in sections() if path}
    keys = found - inner
    return {key for key in keys if key != "name" and not key.startswith("source")}


def test_every_recipe_key_has_a_row() -> None:
    rows = {row.key for row in ROWS}
    without = {
        key
        for key in leaf_keys()
        if not {key, *(key[:place] for place in range(len(key)) if key[place] == ".")} & rows
    }
    assert without == set()
    assert len(rows) == len(ROWS)


def test_every_row_is_of_a_recipe_key() -> None:
    assert {row.key for row in ROWS} <= leaf_keys() | {".".join(path) for path in sections()}


def test_every_option_is_one_of_trtllm_serve() -> None:
    written = {row.option for row in ROWS if isinstance(row, Carried)} | ALWAYS.keys()
    assert written == set(KEYS)
    assert set(RANK_KEYS) <= set(KEYS)
    assert not written & set(facts()["serve_options"]["refused"])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "checkpoint": {"tp_size": 4, "moe_ep_size": 2, "moe_tp_size": 2, "dtype": "float16"},
            "engine": {"max_beam_width": 3, "attention": {"require_fused": False}},
            "package": {"serving": {"kv_cache_reuse": False, "chunked_context": True}},
        },
    ],
)
def test_every_value_has_the_type_of_its_option(changes: dict[str, Any]) -> None:
    for option, value in flat(carried(**changes).options).items():
        types = tuple(PYTHON_TYPES[name] for name in KEYS[option]["type"].split("|")[:1])
        assert type(value) in types, option


def test_limits_layout_and_cache_are_carried_over() -> None:
    found = carried(
        checkpoint={"dtype": "bfloat16", "tp_size": 4, "pp_size": 2, "moe_ep_size": 4},
        engine={
            "attention": {"require_fused": False},
            "max_batch_size": 16,
            "max_input_len": 4000,
            "max_seq_len": 5000,
            "max_beam_width": 2,
            "max_num_tokens": 6000,
            "tokens_per_block": 64,
        },
        package={
            "serving": {"kv_cache_fraction": 0.8, "kv_cache_reuse": True, "chunked_context": True}
        },
    )
    assert found.problems == ()
    assert flat(found.options) == {
        "attn_backend": "TRTLLM",
        "context_parallel_size": 1,
        "dtype": "bfloat16",
        "enable_chunked_prefill": True,
        "gather_generation_logits": False,
        "kv_cache_config.enable_block_reuse": True,
        "kv_cache_config.free_gpu_memory_fraction": 0.8,
        "kv_cache_config.tokens_per_block": 64,
        "max_batch_size": 16,
        "max_beam_width": 2,
        "max_input_len": 4000,
        "max_num_tokens": 6000,
        "max_seq_len": 5000,
        "moe_expert_parallel_size": 4,
        "pipeline_parallel_size": 2,
        "tensor_parallel_size": 4,
        "trust_remote_code": False,
    }


def test_the_number_of_tokens_is_worked_out_as_for_an_engine() -> None:
    found = carried(engine={"max_input_len": 1000, "attention": {"require_fused": False}})
    assert found.options["max_num_tokens"] == 1024


def test_what_is_not_said_is_left_to_trtllm_serve() -> None:
    options = flat(carried().options)
    assert "kv_cache_config.enable_block_reuse" not in options
    assert "moe_expert_parallel_size" not in options


def test_the_yaml_is_read_as_the_same_options() -> None:
    options = carried().options
    text = serve_yaml(options)
    assert yaml.safe_load(text) == options
    assert text == serve_yaml(dict(reversed(options.items())))


REFUSED = {
    "engine.attention.require_fused": {"attention": {"require_fused": True}},
    "engine.attention.context_fmha": {"attention": {"context_fmha": False, "require_fused": False}},
    "engine.kv_cache_type": {"kv_cache_type": "continuous"},
    "engine.logits_dtype": {"logits_dtype": "float16"},
    "engine.gather_context_logits": {"gather_context_logits": True},
    "engine.max_prompt_embedding_table_size": {"max_prompt_embedding_table_size": 4},
    "engine.lora_plugin": {"lora_plugin": "auto", "lora_target_modules": ["attn_q"]},
    "engine.speculative_decoding_mode": {"speculative_decoding_mode": "medusa", "max_draft_len": 4},
    "engine.dora_plugin": {"dora_plugin": True, "lora_plugin": "auto"},
    "engine.weight_streaming": {"weight_streaming": True},
    "engine.streamingllm": {"streamingllm": True},
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_cannot_be_had_is_refused(key: str) -> None:
    # Rules about engines are another matter: they are passed by here.
    base = recipe()
    attention = REFUSED[key].get("attention", {"require_fused": False})
    assert isinstance(attention, dict)
    engine = base.engine.model_copy(
        update={
            **REFUSED[key],
            "attention": base.engine.attention.model_copy(update=attention),
        }
    )
    problems = carry(base.model_copy(update={"engine": engine})).problems
    (problem,) = [each for each in problems if f"`{key}` is" in each.message]
    assert problem.stage == "package"
    assert problem.hint


def test_every_value_that_only_engines_have_is_in_these_tests() -> None:
    told = {row.key for row in ROWS if isinstance(row, Only)}
    others = {"checkpoint.quantization", "engine.max_draft_len", "engine.lora_target_modules"}
    assert told == REFUSED.keys() | others | {"smoke.require_engine", "verify.logits"}


def test_logits_of_a_converted_checkpoint_are_refused() -> None:
    (problem,) = carried(verify={"logits": True}).problems
    assert "`verify.logits` is `true`" in problem.message


def test_a_smoke_test_that_requires_an_engine_is_refused() -> None:
    (problem,) = carried(smoke={"require_engine": True}).problems
    assert "`smoke.require_engine` is `true`" in problem.message


def test_fused_attention_must_be_given_up_by_the_recipe_itself() -> None:
    least = {"name": "x", "source": {"repo": "a/b"}, "package": {"kind": "pytorch"}}
    (problem,) = carry(Recipe.model_validate(least)).problems
    assert "not built, not observed" in problem.message
    assert problem.hint is not None
    assert "engine.attention.require_fused: false" in problem.hint


def test_keys_without_meaning_say_why_and_whether_they_were_set() -> None:
    idle = carried(engine={"gemm_plugin": "auto", "attention": {"require_fused": False}}).idle
    assert idle["engine.gemm_plugin"]["is_default"] is False
    assert "no plugins" in idle["engine.gemm_plugin"]["because"]
    assert idle["engine.moe_plugin"]["is_default"] is True


@pytest.mark.parametrize(
    ("files", "stated"),
    [
        ({"config.json": {}}, "none"),
        ({"config.json": {"quantization_config": None}}, "none"),
        ({"config.json": {"quantization_config": {"quant_method": "fp8"}}}, "fp8"),
        (
            {"config.json": {"quantization_config": {"quant_method": "compressed-tensors"}}},
            "compressed-tensors",
        ),
        (
            {
                "config.json": {},
                "hf_quant_config.json": {"quantization": {"quant_algo": "NVFP4"}},
            },
            "NVFP4",
        ),
    ],
)
def test_how_weights_are_quantised(tmp_path: Path, files: dict[str, Any], stated: str) -> None:
    for name, document in files.items():
        (tmp_path / name).write_text(json.dumps(document))
    assert quantization_of(tmp_path) == stated
