"""Drift: every kind of change to TensorRT-LLM is found, named, and judged."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from pipeline.doctor.drift import TITLES, Difference, find_drift
from pipeline.doctor.drift_problems import drift_problems
from pipeline.doctor.sections import expected_sections
from pipeline.engines.trtllm.request import build_request
from pipeline.errors import MachineError
from pipeline.recipe.schema import EngineSettings
from tests.doctor.test_installed import read
from tests.standins.described_package import write_described_package

CONFIG: dict[str, Any] = {
    "architecture": "MistralForCausalLM",
    "dtype": "bfloat16",
    "mapping": {
        "world_size": 1,
        "tp_size": 1,
        "pp_size": 1,
        "cp_size": 1,
        "moe_tp_size": 1,
        "moe_ep_size": 1,
    },
    "quantization": {"quant_algo": "FP8", "group_size": 64},
    "use_parallel_embedding": False,
}


def rename(section: dict[str, Any], old: str, new: str) -> None:
    section[new] = section.pop(old)


def change_everything(facts: dict[str, Any]) -> None:
    """One change of each kind, as a later release of TensorRT-LLM could make them."""
    build, plugin = facts["build_config"], facts["plugin_config"]
    details = facts["trtllm_build_flag_details"]
    rename(build, "max_encoder_input_len", "max_encoder_tokens")
    build["max_encoder_tokens"]["cli_flag"] = "--max_encoder_tokens"
    flags = facts["trtllm_build_flags"]
    flags[flags.index("--max_encoder_input_len")] = "--max_encoder_tokens"
    build["monitor_memory"]["type"] = "str"
    plugin["use_paged_context_fmha"]["default"] = False
    plugin["gemm_plugin"]["values"].remove("fp8")
    plugin["gemm_plugin"]["values"].append("mxfp4")
    flags.remove("--reduce_fusion")
    flags.append("--new_limit")
    details["defaults"]["--new_limit"] = 5
    flags.append("--new_switch")
    details["switches"].append("--new_switch")
    details["switches"].remove("--weight_sparsity")
    del details["aliases"]["--max_multimodal_len"]
    flags.remove("--max_multimodal_len")
    facts["architectures"]["MistralForCausalLM"]["model_class"] = "MistralForCausalLM"
    facts["architectures"]["PelicanForCausalLM"] = {"model_class": "PelicanForCausalLM"}
    del facts["architectures"]["GPTJForCausalLM"]
    del facts["mapping"]["gpus_per_node"]
    facts["mapping"]["node_size"] = {"default": 8}
    facts["checkpoint_config"]["norm_epsilon"]["default"] = 1e-6
    facts["checkpoint_config"]["vocab_size"] = {"required": True}
    facts["quant_config"]["group_size"]["default"] = 64
    facts["quant_algos"].remove("FP8")
    facts["quant_algos"].append("FP6")
    facts["kv_cache_config"]["free_gpu_memory_fraction"]["default"] = 0.5
    rename(facts["sampling_params"], "max_tokens", "max_new_tokens")
    del facts["llm_arguments"]["enable_lm_head_tp_in_adp"]


EXPECTED = {
    ("build_config", "max_encoder_input_len", "gone", "matters"),
    ("build_config", "max_encoder_tokens", "new", "matters"),
    ("build_config", "monitor_memory", "type", "matters"),
    ("plugin_config", "use_paged_context_fmha", "default", "matters"),
    ("plugin_config", "gemm_plugin", "values", "matters"),
    ("plugin_config", "gemm_plugin", "values", "harmless"),
    ("trtllm_build", "--max_encoder_input_len", "gone", "matters"),
    ("trtllm_build", "--max_encoder_tokens", "new", "matters"),
    ("trtllm_build", "--use_paged_context_fmha", "default", "matters"),
    ("trtllm_build", "--gemm_plugin", "values", "matters"),
    ("trtllm_build", "--gemm_plugin", "values", "harmless"),
    ("trtllm_build", "--reduce_fusion", "gone", "matters"),
    ("trtllm_build", "--new_limit", "new", "matters"),
    ("trtllm_build", "--new_switch", "new", "harmless"),
    ("trtllm_build", "--weight_sparsity", "takes", "matters"),
    ("trtllm_build", "--max_multimodal_len", "gone", "matters"),
    ("architectures", "MistralForCausalLM", "class", "matters"),
    ("architectures", "PelicanForCausalLM", "new", "harmless"),
    ("architectures", "GPTJForCausalLM", "gone", "matters"),
    ("mapping", "gpus_per_node", "gone", "matters"),
    ("mapping", "node_size", "new", "matters"),
    ("checkpoint_config", "norm_epsilon", "default", "matters"),
    ("checkpoint_config", "vocab_size", "required", "matters"),
    ("quant_config", "group_size", "default", "matters"),
    ("quant_algos", "FP8", "gone", "matters"),
    ("quant_algos", "FP6", "new", "harmless"),
    ("kv_cache_config", "free_gpu_memory_fraction", "default", "matters"),
    ("sampling_params", "max_tokens", "gone", "matters"),
    ("sampling_params", "max_new_tokens", "new", "matters"),
    ("llm_arguments", "enable_lm_head_tp_in_adp", "gone", "harmless"),
}


@pytest.fixture(scope="module")
def drift(tmp_path_factory: pytest.TempPathFactory) -> list[Difference]:
    """The drift of a package that changed everywhere, read as an installed one is."""
    folder = tmp_path_factory.mktemp("machine") / "changed"
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = read(write_described_package(folder, change_everything), monkeypatch)
    assert found.unread == {}
    return find_drift(expected_sections(), found.sections)


def test_every_change_is_found_and_nothing_else(drift: list[Difference]) -> None:
    found = {(each.section, each.name, each.aspect, each.severity) for each in drift}
    # A flag that is no switch any more has other words for its default.
    assert found - {("trtllm_build", "--weight_sparsity", "default", "matters")} == EXPECTED


def test_a_difference_names_itself_and_says_what_to_do(drift: list[Difference]) -> None:
    for each in drift:
        assert f"`{each.name}`" in each.message
        assert TITLES[each.section] in each.message
        assert each.todo
        assert each.document()["severity"] == each.severity
    by_name = {(each.section, each.name, each.severity): each.message for each in drift}
    assert by_name["plugin_config", "use_paged_context_fmha", "matters"] == (
        "field of PluginConfig `use_paged_context_fmha` has another default: `false`, not `true`"
    )
    assert by_name["architectures", "MistralForCausalLM", "matters"] == (
        "architecture of MODEL_MAP `MistralForCausalLM` becomes another class: "
        "`MistralForCausalLM`, not `LLaMAForCausalLM`"
    )
    assert by_name["trtllm_build", "--gemm_plugin", "matters"] == (
        "flag of trtllm-build `--gemm_plugin` no longer takes `fp8`"
    )


def test_what_matters_comes_first(drift: list[Difference]) -> None:
    severities = [each.severity for each in drift]
    assert severities == sorted(severities, key="matters harmless".index)


def problems(
    drift: list[Difference], change: Callable[[dict[str, Any]], None] | None = None, **keys: Any
) -> set[str]:
    """The names in the problems of one build."""
    config = deepcopy(CONFIG)
    if change is not None:
        change(config)
    request = build_request(EngineSettings(**keys), config)
    found = drift_problems(drift, request.options, config)
    assert {problem.kind for problem in found} <= {MachineError}
    return {problem.message.split("`")[1] for problem in found}


ALWAYS = {
    # The limits and plugins that every command line has.
    *("max_encoder_input_len", "--max_encoder_input_len", "--reduce_fusion"),
}


def test_a_build_is_stopped_only_by_what_it_uses(drift: list[Difference]) -> None:
    checkpoint = {"MistralForCausalLM", "FP8", "group_size"}
    assert problems(drift) == ALWAYS | checkpoint
    other = {"architecture": "LlamaForCausalLM", "quantization": {"quant_algo": None}}
    assert problems(drift, lambda config: config.update(other)) == ALWAYS
    gone = {"mapping": {**CONFIG["mapping"], "gpus_per_node": 8}, **other}
    assert problems(drift, lambda config: config.update(gone)) == ALWAYS | {"gpus_per_node"}


def test_a_value_that_is_gone_stops_who_asks_it(drift: list[Difference]) -> None:
    asked = problems(drift, gemm_plugin="fp8") - problems(drift)
    assert asked == {"gemm_plugin", "--gemm_plugin"}


def test_a_switch_stops_who_sets_it(drift: list[Difference]) -> None:
    assert "--weight_sparsity" in problems(drift, weight_sparsity=True)
    assert "monitor_memory" in problems(drift, monitor_memory=True)


def test_a_changed_default_stops_who_leaves_the_option_to_it() -> None:
    known = {"build_config": {"weight_streaming": {"default": False}}}
    found = find_drift(known, {"build_config": {"weight_streaming": {"default": True}}})
    assert [problem.stage for problem in drift_problems(found, {"weight_streaming": False})] == [
        "build"
    ]
    assert drift_problems(found, {"weight_streaming": True}) == []
    assert drift_problems(found, {}) == []


def test_a_section_that_was_not_read_is_no_drift() -> None:
    assert find_drift(expected_sections(), {}) == []


def test_names_of_types_differ_by_the_python_that_runs() -> None:
    known = {"quant_config": {"clamp_val": {"type": "list[float]|null", "default": None}}}
    row = {"type": "List[float]|null", "values": None, "default": None, "required": False}
    assert find_drift(known, {"quant_config": {"clamp_val": row}}) == []
