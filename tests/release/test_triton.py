"""Triton model repositories, held against Triton's own schema and written into releases."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import VerificationError
from pipeline.recipe.schema import Serving
from pipeline.release.triton import repository_files
from pipeline.release.triton_engine import read_served_engine
from pipeline.release.triton_models import models
from pipeline.release.triton_parameters import NEVER_LEFT_OUT
from pipeline.release.triton_readme import start_lines, triton_section
from pipeline.release.triton_text import Message, Word, message, parse_text, write_text
from tests.release.triton_parts import engine_config, read_by_schema, triton_release, triton_schema

MODELS = ("ensemble", "postprocessing", "preprocessing", "tensorrt_llm")
ENGINES = {
    "plain": {},
    "beams": {"max_beam_width": 4},
    "lora": {"lora_plugin": "bfloat16"},
    "prompt-table": {"max_prompt_embedding_table_size": 32, "dtype": "float16"},
    "half-logits": {"logits_dtype": "float16", "lora_plugin": "auto"},
    "unpaged": {"use_paged_context_fmha": False},
    "medusa": {"speculative_decoding_mode": 4},
}


def configs(engine: dict[str, Any] | None = None, **serving: Any) -> dict[str, Any]:
    """Each model's configuration as Triton reads it."""
    files = repository_files(engine or engine_config(), Serving(**serving))
    return {name: read_by_schema(files[f"triton/{name}/config.pbtxt"]) for name in MODELS}


def parameters(config: Any) -> dict[str, str]:
    return {key: value.string_value for key, value in config.parameters.items()}


def test_every_file_of_a_repository() -> None:
    assert sorted(repository_files(engine_config(), Serving())) == [
        "triton/ensemble/1/about.txt",
        "triton/ensemble/config.pbtxt",
        "triton/postprocessing/1/model.py",
        "triton/postprocessing/config.pbtxt",
        "triton/preprocessing/1/model.py",
        "triton/preprocessing/config.pbtxt",
        "triton/tensorrt_llm/1/about.txt",
        "triton/tensorrt_llm/config.pbtxt",
    ]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("changes", ENGINES.values(), ids=ENGINES)
def test_triton_reads_what_is_written(name: str, changes: dict[str, Any]) -> None:
    config = configs(engine_config(**changes))[name]
    assert config.name == name
    assert config.max_batch_size == 5
    for tensors in (config.input, config.output):
        names = [tensor.name for tensor in tensors]
        assert len(set(names)) == len(names)
        assert triton_schema().TYPE_INVALID not in {tensor.data_type for tensor in tensors}
    backends = {"ensemble": "", "tensorrt_llm": "tensorrtllm"}
    assert config.backend == backends.get(name, "python")


@pytest.mark.parametrize("changes", ENGINES.values(), ids=ENGINES)
def test_the_steps_of_the_ensemble_fit_each_other(changes: dict[str, Any]) -> None:
    found = configs(engine_config(**changes))
    ensemble = found["ensemble"]
    known = {tensor.name: tensor.data_type for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        model = found[step.model_name]
        inputs = {tensor.name: tensor for tensor in model.input}
        outputs = {tensor.name: tensor for tensor in model.output}
        needed = {name for name, tensor in inputs.items() if not tensor.optional}
        assert needed <= set(step.input_map) <= set(inputs)
        for name, source in step.input_map.items():
            assert inputs[name].data_type == known[source], (step.model_name, name)
        for name, target in step.output_map.items():
            known[target] = outputs[name].data_type
    for tensor in ensemble.output:
        assert known[tensor.name] == tensor.data_type
    used = {
        source for step in ensemble.ensemble_scheduling.step for source in step.input_map.values()
    }
    assert {tensor.name for tensor in ensemble.input} <= used


def test_the_limits_of_the_engine() -> None:
    found = configs(engine_config(max_batch_size=7, max_beam_width=3))
    assert {config.max_batch_size for config in found.values()} == {7}
    llm = found["tensorrt_llm"]
    assert list(llm.dynamic_batching.preferred_batch_size) == [7]
    assert parameters(llm)["max_beam_width"] == "3"
    assert parameters(found["preprocessing"])["vocab_size"] == "120"


@pytest.mark.parametrize(
    ("changes", "serving", "parameter", "value"),
    [
        ({}, {}, "gpt_model_type", "inflight_fused_batching"),
        ({}, {}, "gpt_model_path", "engine"),
        ({}, {}, "enable_kv_cache_reuse", "true"),
        ({}, {"kv_cache_reuse": False}, "enable_kv_cache_reuse", "false"),
        ({"use_paged_context_fmha": False}, {}, "enable_kv_cache_reuse", "false"),
        ({"context_fmha": False}, {}, "enable_kv_cache_reuse", "false"),
        ({}, {}, "enable_chunked_context", "false"),
        ({}, {"chunked_context": True}, "enable_chunked_context", "true"),
        ({}, {"kv_cache_fraction": 0.85}, "kv_cache_free_gpu_mem_fraction", "0.85"),
        ({}, {}, "decoding_mode", "top_k_top_p"),
        ({"max_beam_width": 2}, {}, "decoding_mode", "beam_search"),
        ({"speculative_decoding_mode": 2}, {}, "decoding_mode", "top_k_top_p"),
        ({"speculative_decoding_mode": 4}, {}, "decoding_mode", "medusa"),
        ({"speculative_decoding_mode": 16}, {}, "decoding_mode", "redrafter"),
        ({"speculative_decoding_mode": 32}, {}, "decoding_mode", "eagle"),
        ({"lora_plugin": "auto"}, {}, "lora_cache_max_adapter_size", "24"),
    ],
)
def test_parameters_follow_engine_and_recipe(
    changes: dict[str, Any], serving: dict[str, Any], parameter: str, value: str
) -> None:
    found = configs(engine_config(**changes), **serving)
    assert parameters(found["tensorrt_llm"])[parameter] == value


def test_parameters_without_which_the_backend_loads_no_model() -> None:
    found = parameters(configs()["tensorrt_llm"])
    assert [found[name] for name in NEVER_LEFT_OUT] == ["", "", ""]
    assert "lora_cache_max_adapter_size" not in found


def test_streaming_is_decoupled() -> None:
    decoupled = [
        configs(streaming=streaming)["tensorrt_llm"].model_transaction_policy.decoupled
        for streaming in (False, True)
    ]
    assert decoupled == [False, True]


@pytest.mark.parametrize(
    ("changes", "tensors"),
    [
        ({}, set()),
        ({"lora_plugin": "auto"}, {"lora_task_id", "lora_weights", "lora_config"}),
        (
            {"max_prompt_embedding_table_size": 8},
            {"prompt_embedding_table", "prompt_table_extra_id", "prompt_vocab_size"},
        ),
    ],
)
def test_clients_send_only_what_the_engine_can(changes: dict[str, Any], tensors: set[str]) -> None:
    found = {tensor.name for tensor in configs(engine_config(**changes))["ensemble"].input}
    assert {name for name in found if name.startswith(("lora", "prompt"))} == tensors


@pytest.mark.parametrize(("logits", "dtype"), [("float32", "TYPE_FP32"), ("float16", "TYPE_FP16")])
def test_the_dtypes_of_the_engine(logits: str, dtype: str) -> None:
    changes = {"logits_dtype": logits, "dtype": "bfloat16", "max_prompt_embedding_table_size": 1}
    found = configs(engine_config(**changes))
    schema = triton_schema()
    for name in ("ensemble", "tensorrt_llm"):
        outputs = {tensor.name: tensor.data_type for tensor in found[name].output}
        assert outputs["context_logits"] == getattr(schema, dtype)
        assert outputs["generation_logits"] == getattr(schema, dtype)
        inputs = {tensor.name: tensor.data_type for tensor in found[name].input}
        assert inputs["prompt_embedding_table"] == schema.TYPE_BF16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "int8"}, "the engine's `dtype` is `int8`"),
        ({"logits_dtype": "fp8"}, "the engine's `logits_dtype` is `fp8`"),
        ({"speculative_decoding_mode": 3}, "not as TensorRT-LLM 1.2 writes it"),
    ],
)
def test_an_engine_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        read_served_engine(engine_config(**change))


@pytest.mark.parametrize("section", ["pretrained_config", "build_config", "version"])
def test_a_config_that_is_not_an_engines(section: str) -> None:
    config = engine_config()
    del config[section]
    with pytest.raises(VerificationError, match=section):
        repository_files(config, Serving())


def test_the_text_is_read_as_it_was_written() -> None:
    served = read_served_engine(engine_config(lora_plugin="auto"))
    for name, model in models(served, Serving()).items():
        assert parse_text(write_text(model, "a heading"), name) == model


def test_values_of_every_kind() -> None:
    root = Message(
        (
            ("name", 'a "quoted" \\ text'),
            ("name", ""),
            ("count", -3),
            ("on", True),
            ("off", False),
            ("kind", Word("TYPE_FP32")),
            ("dims", (-1, 0, 22)),
            ("shape", ()),
            ("empty", message()),
            ("inner", message(inner=message(value=1))),
        )
    )
    assert parse_text(write_text(root, "all"), "all") == root


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("name", "`its end` where `:` belongs"),
        ("name: ", "`its end` where `[` belongs"),
        ('name: "open', "a character that does not belong there"),
        ('name: "a" }', "`}` after its end"),
        ("input {", "`its end` where `}` belongs"),
        ("dims: [1, x]", "a list of something else than whole numbers"),
        ("dims: [1 2]", "`2` where `,` belongs"),
        ("count: 1.5", "a character that does not belong there"),
        ("count: 07", "a character that does not belong there"),
        ("a {" * 30, "messages nested too deep"),
        ("name: 'single'", "a character that does not belong there"),
    ],
)
def test_text_that_is_refused(text: str, what: str) -> None:
    with pytest.raises(VerificationError) as caught:
        parse_text(f"count: 1\n{text}".encode(), "config.pbtxt")
    assert str(caught.value) == f"`config.pbtxt` cannot be read: line 2 has {what}"


def test_text_that_is_not_text() -> None:
    with pytest.raises(VerificationError, match="not ASCII"):
        parse_text("name: 'ä'".encode(), "config.pbtxt")


def test_a_release_holds_it_without_a_second_engine(tmp_path: Path) -> None:
    release = triton_release(tmp_path, engine_config(world_size=2))
    size_bytes = sum(path.stat().st_size for path in release.rglob("*") if path.is_file())
    engine_bytes = sum(path.stat().st_size for path in release.glob("engine/*.engine"))
    assert size_bytes < engine_bytes + 60_000
    assert not list(release.glob("triton/**/*.engine"))
    for path in (release / "triton").glob("*/config.pbtxt"):
        read_by_schema(path.read_bytes())


def test_the_tar_holds_it_whole(tmp_path: Path) -> None:
    release = triton_release(tmp_path)
    with tarfile.open(tmp_path / "tiny.tar") as tar:
        for path in (release / "triton").rglob("*"):
            name = f"tiny/{path.relative_to(release).as_posix()}"
            member = tar.extractfile(name)
            assert path.is_dir() if member is None else member.read() == path.read_bytes()


def test_equal_bytes_twice(tmp_path: Path) -> None:
    tars = []
    for folder in (tmp_path / "one", tmp_path / "another"):
        folder.mkdir()
        triton_release(folder)
        tars.append((folder / "tiny.tar").read_bytes())
    assert tars[0] == tars[1]


def test_the_paths_lead_somewhere(tmp_path: Path) -> None:
    release = triton_release(tmp_path)
    llm = read_by_schema((release / "triton/tensorrt_llm/config.pbtxt").read_bytes())
    engine = release / parameters(llm)["gpt_model_path"]
    assert json.loads((engine / "config.json").read_bytes())["version"] == "1.2.1"
    for name in ("preprocessing", "postprocessing"):
        config = read_by_schema((release / f"triton/{name}/config.pbtxt").read_bytes())
        assert (release / parameters(config)["tokenizer_dir"] / "tokenizer.json").is_file()


def test_an_engine_that_cannot_be_served_is_not_packed(tmp_path: Path) -> None:
    with pytest.raises(VerificationError) as caught:
        triton_release(tmp_path, engine_config(kv_cache_type="continuous"))
    assert caught.value.facts == (
        "the engine was built without a paged KV cache, which in-flight batching needs",
    )


def test_the_readme_says_how_to_start(tmp_path: Path) -> None:
    text = (triton_release(tmp_path, engine_config(world_size=2)) / "README.md").read_text()
    assert "## Serve it with Triton" in text
    assert "image with TensorRT-LLM 1.2.1" in text
    for line in start_lines(2):
        assert f"    {line}\n" in text


def test_one_process_for_each_rank() -> None:
    assert start_lines(1) == [
        "tritonserver --model-repository=triton --disable-auto-complete-config"
    ]
    first, *ranks = start_lines(4)
    assert first.startswith("mpirun ")
    assert len(ranks) == 4
    assert [" --load-model=tensorrt_llm" in line for line in ranks] == [False, True, True, True]
    assert [line.endswith(" : \\") for line in ranks] == [True, True, True, False]


def test_the_readme_names_the_image_of_the_recipe() -> None:
    text = triton_section(engine_config(), Serving(triton_image="26.04"))
    assert "nvcr.io/nvidia/tritonserver:26.04-trtllm-python-py3 bash" in text
    assert "YY.MM" not in text
    without = triton_section(engine_config(), Serving())
    assert "25.12 has 1.1.0" in without
    assert "(line 25.12 has it)" in triton_section(engine_config(version="1.1.0"), Serving())
