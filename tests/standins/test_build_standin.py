"""The stand-in for `trtllm-build` refuses what the real program would, and more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from pipeline.trtllm.facts import facts
from tests.engines.trtllm.building import checkpoint, settings
from tests.standins import Standin
from tests.standins.arguments import build_parser, parse_arguments
from tests.standins.trtllm_build import main


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standin:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return Standin(tmp_path / "machine")


def built(standin: Standin, folder: Path, *arguments: str) -> int:
    out = folder.parent / "engine"
    timings = folder.parent / "timings"
    paths = ["--checkpoint_dir", folder, "--output_dir", out, "--output_timing_cache", timings]
    limits = ["--max_seq_len", "48", "--max_input_len", "24", "--max_batch_size", "2"]
    return main([*map(str, paths), *limits, *arguments], str(standin.folder))


def test_the_parser_has_every_flag_of_the_facts_and_no_other() -> None:
    found = {flag for action in build_parser()._actions for flag in action.option_strings}
    assert found - {"-h", "--help"} == set(facts()["trtllm_build_flags"])


@pytest.mark.parametrize(
    "argv",
    [
        ["--max_output_len", "8"],
        ["--max_batch", "8"],
        ["--max_batch_size", "-1"],
        ["--max_batch_size", "8.0"],
        ["--max_batch_size", "8", "--max_batch_size", "8"],
        ["--gpt_attention_plugin", "fp8"],
        ["--gpt_attention_plugin"],
        ["--context_fmha", "true"],
        ["--context_fmha"],
        ["--kv_cache_type", "block"],
        ["--logits_dtype", "bfloat16"],
        ["--strip_plan", "enable"],
        ["--profiling_verbosity", "all"],
        ["engine"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_refused(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(argv)
    assert caught.value.code == 2
    assert "usage: trtllm-build" in capsys.readouterr().err


def change_config(folder: Path, **keys: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **keys}))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"architecture": "GptOssForCausalLM"}, "KeyError"),
        ({"hiden_size": 40}, "Implicitly setting"),
        ({"mapping": {"world_size": 1, "tpsize": 1}}, "TypeError: mapping"),
        ({"quantization": {"algo": "FP8"}}, "TypeError: quantization"),
        ({"dtype": "float16"}, "expected ('float16'"),
        ({"intermediate_size": 80}, "expected"),
        ({"num_hidden_layers": 4}, "Required but not provided"),
        ({"num_hidden_layers": 2}, "Provided but not required"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    standin: Standin,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    keys: dict[str, Any],
    message: str,
) -> None:
    folder = checkpoint(tmp_path / "checkpoint").path
    change_config(folder, **keys)
    assert built(standin, folder) == 1
    assert message in capsys.readouterr().err


def test_a_tensor_of_another_name_is_refused(
    standin: Standin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint(tmp_path / "checkpoint").path
    tensors = load_file(folder / "rank0.safetensors")
    tensors["lm_head.weigth"] = tensors.pop("lm_head.weight")
    save_file(tensors, folder / "rank0.safetensors")
    assert built(standin, folder) == 1
    assert "lm_head.weight" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "part", "found"),
    [
        (["--context_fmha", "disable"], "plugin_config", {"use_paged_context_fmha": False}),
        (["--reduce_fusion", "enable"], "plugin_config", {"reduce_fusion": False}),
        (["--user_buffer", "enable"], "plugin_config", {"user_buffer": False}),
        (["--norm_quant_fusion", "enable"], "plugin_config", {"norm_quant_fusion": False}),
        (["--use_fp8_context_fmha", "enable"], "plugin_config", {"use_fp8_context_fmha": False}),
        (["--nccl_plugin", "float16"], "plugin_config", {"nccl_plugin": None}),
        (["--paged_state", "enable"], "plugin_config", {"paged_state": False}),
        (["--max_num_tokens", "4096"], None, {"max_num_tokens": 96}),
        (["--max_num_tokens", "8"], None, {"max_num_tokens": 32}),
        (["--max_num_tokens", "64", "--opt_num_tokens", "80"], None, {"opt_num_tokens": 64}),
        (["--remove_input_padding", "disable"], None, {"max_num_tokens": 96}),
        (["--fast_build"], "plugin_config", {"manage_weights": True}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_builder_changes_is_changed(
    standin: Standin,
    tmp_path: Path,
    arguments: list[str],
    part: str | None,
    found: dict[str, Any],
) -> None:
    assert built(standin, checkpoint(tmp_path / "checkpoint").path, *arguments) == 0
    document = json.loads((tmp_path / "engine" / "config.json").read_bytes())["build_config"]
    assert found.items() <= (document[part] if part else document).items()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--streamingllm", "enable"],
        ["--pp_reduce_scatter", "enable"],
        ["--multiple_profiles", "enable", "--opt_num_tokens", "8"],
        ["--gather_context_logits", "--max_draft_len", "2"],
        ["--gemm_swiglu_plugin", "fp8", "--use_fused_mlp", "disable"],
        ["--gpt_attention_plugin", "disable"],
    ],
    ids=" ".join,
)
def test_what_the_builder_refuses_is_refused(
    standin: Standin, tmp_path: Path, arguments: list[str]
) -> None:
    assert built(standin, checkpoint(tmp_path / "checkpoint").path, *arguments) == 1


def test_without_a_gpu_nothing_is_built(standin: Standin, tmp_path: Path) -> None:
    standin.set_gpus([])
    assert built(standin, checkpoint(tmp_path / "checkpoint").path) == 1
    assert settings().targets == ("sm90",)
