"""The check of a Triton model repository against the engine of its release finds every change."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import VerificationError
from pipeline.progress import Silent
from pipeline.recipe.schema import Serving
from pipeline.release.digests import digest_all, encode_sums, list_extents
from pipeline.release.manifest import decode, encode
from pipeline.release.tar import write_tar
from pipeline.release.triton import repository_files
from pipeline.release.triton_check import check_repository
from pipeline.release.triton_differences import differences
from pipeline.release.triton_engine import read_served_engine
from pipeline.release.triton_models import models
from pipeline.release.triton_text import parse_text
from pipeline.release.verify import verify_release
from tests.release.made import NO_GPU
from tests.release.triton_parts import engine_config, triton_release

MODELS = ("ensemble", "postprocessing", "preprocessing", "tensorrt_llm")
LLM = "triton/tensorrt_llm/config.pbtxt"
BEAMS = "parameters[max_beam_width].value.string_value"
DECOUPLED, STREAMING = "model_transaction_policy.decoupled", "`package.serving.streaming`"
LOGITS = "output[context_logits].data_type"
CODE = "triton/postprocessing/1/model.py"


def files_of(config: Mapping[str, Any] | None = None, **serving: Any) -> dict[str, bytes]:
    """A repository and the names that a release has beside it."""
    config = config or engine_config()
    files = dict(repository_files(config, Serving(**serving)))
    for rank in range(config["pretrained_config"]["mapping"]["world_size"]):
        files[f"engine/rank{rank}.engine"] = b""
    files["tokenizer/tokenizer.json"] = b""
    return files


def faults_of(
    files: Mapping[str, bytes],
    config: Mapping[str, Any] | None = None,
    *,
    same_version: bool = True,
    **serving: Any,
) -> list[str]:
    return check_repository(
        config or engine_config(),
        Serving(**serving),
        frozenset(files),
        files.__getitem__,
        same_version=same_version,
    )


def changed(value: str) -> str:
    """Another value of the same form."""
    if value in {"true", "false"}:
        return "false" if value == "true" else "true"
    if value.startswith('"'):
        return f'"{value[1:-1]}x"'
    if value.startswith("["):
        return "[77]"
    return str(int(value) + 1) if re.fullmatch(r"-?\d+", value) else f"{value}X"


def test_a_repository_as_it_is_written_fits() -> None:
    assert faults_of(files_of()) == []
    config = engine_config(world_size=4, lora_plugin="auto", max_prompt_embedding_table_size=9)
    serving = {"streaming": True, "chunked_context": True, "triton_image": "26.04"}
    assert faults_of(files_of(config, **serving), config, **serving) == []


@pytest.mark.parametrize("name", MODELS)
def test_every_value_that_is_changed_is_found(name: str) -> None:
    served = read_served_engine(engine_config(lora_plugin="auto"))
    model = models(served, Serving())[name]
    lines = (
        repository_files(engine_config(lora_plugin="auto"), Serving())[
            f"triton/{name}/config.pbtxt"
        ]
        .decode()
        .splitlines(keepends=True)
    )
    tried = 0
    for number, line in enumerate(lines):
        found = re.fullmatch(r"( *\w+: )(.+)\n", line)
        if found is None:
            continue
        other = [*lines]
        other[number] = f"{found[1]}{changed(found[2])}\n"
        written = parse_text("".join(other).encode(), name)
        assert list(differences(name, written, model, True)), line
        tried += 1
    assert tried > 15


@pytest.mark.parametrize("name", MODELS)
def test_a_line_that_is_left_out_or_doubled_is_found(name: str) -> None:
    served = read_served_engine(engine_config())
    model = models(served, Serving())[name]
    text = repository_files(engine_config(), Serving())[f"triton/{name}/config.pbtxt"].decode()
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if not re.fullmatch(r" *\w+: .+\n", line):
            continue
        copies = 0 if number % 2 else 2
        other = "".join([*lines[:number], *[line] * copies, *lines[number + 1 :]])
        written = parse_text(other.encode(), name)
        assert list(differences(name, written, model, True)), (copies, line)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "max_batch_size: 5",
            "max_batch_size: 6",
            "`max_batch_size` is `6`, expected `5`, the engine's `max_batch_size`",
        ),
        (
            '"max_beam_width"\n  value {\n    string_value: "1"',
            '"max_beam_width"\n  value {\n    string_value: "2"',
            f"`{BEAMS}` is `2`, expected `1`, the engine's `max_beam_width`",
        ),
        (
            "decoupled: false",
            "decoupled: true",
            f"`{DECOUPLED}` is `true`, expected `false`, which the recipe says ({STREAMING})",
        ),
        (
            '"context_logits"\n  data_type: TYPE_FP32',
            '"context_logits"\n  data_type: TYPE_FP16',
            f"`{LOGITS}` is `TYPE_FP16`, expected `TYPE_FP32`, the engine's `logits_dtype`",
        ),
        (
            'name: "tensorrt_llm"\n',
            'name: "tensorrt_llm"\nname: "tensorrt_llm"\n',
            "`name` is given 2 times",
        ),
        ('name: "tensorrt_llm"\n', "", "`name` is missing, expected `tensorrt_llm`"),
        (
            'name: "tensorrt_llm"\n',
            'name: "tensorrt_llm"\nplatform: "ensemble"\n',
            "`platform` is `ensemble`, which does not belong there",
        ),
    ],
)
def test_a_fault_names_place_value_and_origin(old: str, new: str, fault: str) -> None:
    files = files_of()
    text = files[LLM].decode()
    assert text.count(old) == 1
    files[LLM] = text.replace(old, new).encode()
    assert faults_of(files) == [f"`{LLM}`: {fault}"]


@pytest.mark.parametrize(
    ("change", "serving", "fault"),
    [
        ({"kv_cache_type": "continuous"}, {}, "built without a paged KV cache"),
        ({"remove_input_padding": False}, {}, "built without packed input"),
        ({"gpt_attention_plugin": None}, {}, "built without the GPT attention plugin"),
        (
            {"use_paged_context_fmha": False},
            {"kv_cache_reuse": True},
            "`package.serving.kv_cache_reuse` is true, but the engine was built without paged",
        ),
        (
            {"context_fmha": False},
            {"chunked_context": True},
            "`package.serving.chunked_context` is true, but the engine was built without paged",
        ),
        ({"max_num_tokens": 64}, {}, "64 tokens a step (`max_num_tokens`), but prompts of 96"),
        ({"speculative_decoding_mode": 8}, {}, "decodes by lookahead"),
        ({}, {"triton_image": "25.12"}, "25.12 has TensorRT-LLM 1.1.0, but the engine was built"),
        ({"version": "1.1.0"}, {"triton_image": "25.11"}, "25.11 has TensorRT-LLM 1.0.3"),
    ],
)
def test_an_engine_that_cannot_be_served_so(
    change: dict[str, Any], serving: dict[str, Any], fault: str
) -> None:
    config = engine_config(**change)
    (found,) = faults_of(files_of(config, **serving), config, **serving)
    assert fault in found


def test_an_image_of_the_same_version_or_of_an_unknown_one_is_no_fault() -> None:
    same = engine_config(version="1.1.0")
    assert faults_of(files_of(same, triton_image="25.12"), same, triton_image="25.12") == []
    assert faults_of(files_of(triton_image="26.05"), triton_image="26.05") == []


def drop(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.__delitem__(name)


def put(name: str, data: bytes = b"") -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.__setitem__(name, data)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (drop("engine/rank1.engine"), "`engine/rank1.engine` is missing: the engine has a world"),
        (put("engine/rank2.engine"), "`engine/rank2.engine` is one too many"),
        (drop("tokenizer/tokenizer.json"), "`tokenizer/` has no tokenizer"),
        (drop(LLM), f"`{LLM}` is missing"),
        (put(LLM, b"name: "), f"`{LLM}` cannot be read: line 1"),
        (put("triton/other/config.pbtxt"), "is of a model that this repository does not have"),
        (drop("triton/preprocessing/1/model.py"), "`triton/preprocessing/1/model.py` is missing"),
        (
            put("triton/postprocessing/1/model.py", b"import os\n"),
            "is not the code of this version",
        ),
        (drop("triton/ensemble/1/about.txt"), "`triton/ensemble/1/about.txt` is missing"),
        (put("triton/tensorrt_llm/1/rank0.engine"), "does not belong to the repository"),
    ],
)
def test_files_that_are_missing_wrong_or_too_many(
    change: Callable[[dict[str, bytes]], None], fault: str
) -> None:
    config = engine_config(world_size=2)
    files = files_of(config)
    change(files)
    (found,) = faults_of(files, config)
    assert fault in found


def test_another_engine_is_found() -> None:
    files = files_of(engine_config(max_batch_size=5, logits_dtype="float32"))
    other = engine_config(max_batch_size=9, logits_dtype="float16", max_beam_width=2)
    faults = faults_of(files, other)
    for part in ("max_batch_size", "logits", "parameters[max_beam_width]", "preferred_batch_size"):
        assert any(part in fault for fault in faults)


def test_what_another_version_of_this_project_wrote_must_agree_where_both_speak() -> None:
    files = files_of()
    text = files[LLM].decode()
    newer = text.replace('name: "tensorrt_llm"\n', 'name: "tensorrt_llm"\nversion_x: 3\n')
    files[LLM] = newer.replace("max_batch_size: 5", "max_batch_size: 6").encode()
    files["triton/preprocessing/1/model.py"] = b"# of another version\n"
    (fault,) = faults_of(files, same_version=False)
    assert "`max_batch_size` is `6`" in fault


def reseal(release: Path) -> None:
    """Write manifest and sums anew, as somebody would who changes a release on purpose."""
    manifest = decode((release / "manifest.json").read_bytes())
    for name in ("manifest.json", "SHA256SUMS"):
        (release / name).unlink()
    digests = digest_all(list_extents(release), Silent())
    files = tuple(
        file.model_copy(
            update={
                "sha256": digests[file.path],
                "size_bytes": (release / file.path).stat().st_size,
            }
        )
        for file in manifest.files
    )
    data = encode(manifest.model_copy(update={"files": files}))
    (release / "manifest.json").write_bytes(data)
    sums = digest_all(list_extents(release), Silent())
    (release / "SHA256SUMS").write_bytes(encode_sums(sums))


def rewrite(path: Path, data: bytes) -> None:
    path.unlink()  # a published file may be a hard link
    path.write_bytes(data)


def test_verify_takes_a_release_that_fits_as_folder_and_tar(tmp_path: Path) -> None:
    release = triton_release(tmp_path)
    for path in (release, tmp_path / "tiny.tar"):
        report = verify_release(path, NO_GPU)
        assert report.document()["sound"]


def test_verify_names_a_changed_byte(tmp_path: Path) -> None:
    release = triton_release(tmp_path)
    path = release / LLM
    rewrite(path, path.read_bytes().replace(b"max_batch_size: 5", b"max_batch_size: 6"))
    with pytest.raises(VerificationError, match="is damaged") as caught:
        verify_release(release, NO_GPU)
    assert [fault.split(":")[0] for fault in caught.value.facts] == [f"`{LLM}` is changed"]


def test_verify_finds_a_value_that_does_not_fit_though_every_byte_is_sealed(tmp_path: Path) -> None:
    release = triton_release(tmp_path)
    path = release / LLM
    rewrite(path, path.read_bytes().replace(b"max_batch_size: 5", b"max_batch_size: 6"))
    reseal(release)
    write_tar(tmp_path / "tiny.tar", "tiny", list_extents(release), Silent())
    for place in (release, tmp_path / "tiny.tar"):
        with pytest.raises(VerificationError, match="does not fit its engine") as caught:
            verify_release(place, NO_GPU)
        (fault,) = caught.value.facts
        assert "`max_batch_size` is `6`, expected `5`" in fault


def test_verify_finds_another_engine_though_every_byte_is_sealed(tmp_path: Path) -> None:
    release = triton_release(tmp_path)
    config = json.loads((release / "engine/config.json").read_bytes())
    config["build_config"]["max_beam_width"] = 4
    rewrite(release / "engine/config.json", json.dumps(config).encode())
    reseal(release)
    with pytest.raises(VerificationError) as caught:
        verify_release(release, NO_GPU)
    assert any("parameters[max_beam_width]" in fault for fault in caught.value.facts)
    assert any("parameters[decoding_mode]" in fault for fault in caught.value.facts)
