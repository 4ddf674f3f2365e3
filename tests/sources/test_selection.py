"""The allow-list, the validator of names, and the refusals."""

from __future__ import annotations

import json

import pytest
from tiny_source import NEEDED, checkpoint_files

from pipeline.errors import RecipeError, VerificationError
from pipeline.sources.names import check_names, why_unsafe
from pipeline.sources.selection import (
    QUANTIZATION_NAMES,
    remote_code_references,
    select_files,
)

INDEX = "model.safetensors.index.json"


def index_of(*files: str) -> bytes:
    return json.dumps({"weight_map": {f"t{n}": file for n, file in enumerate(files)}}).encode()


def test_needed_files_and_nothing_else() -> None:
    files = checkpoint_files()
    assert list(select_files(files.keys(), files[INDEX])) == NEEDED


@pytest.mark.parametrize("name", sorted(QUANTIZATION_NAMES))
def test_how_weights_are_quantised_is_needed(name: str) -> None:
    names = {"config.json", "model.safetensors", name, f"docs/{name}"}
    assert select_files(names, None) == tuple(sorted(names - {f"docs/{name}"}))


def test_single_weight_file_needs_no_index() -> None:
    names = {"config.json", "model.safetensors", "model.fp16.safetensors", "pytorch_model.bin"}
    assert select_files(names, None) == ("config.json", "model.safetensors")


@pytest.mark.parametrize(
    "name",
    [
        "LICENSE",
        "LICENCE",
        "License.txt",
        "LICENSE-MODEL",
        "LICENSE_LLAMA.md",
        "LICENSE-2.0",
        "NOTICE",
        "NOTICE.txt",
        "COPYING",
        "USE_POLICY.md",
        "LICENSE-APACHE-2.0.txt",
    ],
)
def test_licences_are_needed(name: str) -> None:
    assert name in select_files({"config.json", "model.safetensors", name}, None)


@pytest.mark.parametrize(
    "name",
    [
        "LICENSE.py",
        "LICENSE.bin",
        "notice.sh",
        "docs/LICENSE",
        "LICENSE.tar.gz",
        "README.md",
        "tokenization_x.py",
        "sub/config.json",
        "additional_chat_templates/x.py",
        "optimizer.pt",
        "additional_chat_templates/deep/x.jinja",
        "../LICENSE",
        "config.json.lock",
    ],
)
def test_anything_else_is_not_needed(name: str) -> None:
    assert name not in select_files({"config.json", "model.safetensors", name}, None)


def test_missing_config_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"has no `config\.json`"):
        select_files({"model.safetensors"}, None)


def test_pickle_only_says_how_to_convert() -> None:
    names = {"config.json", "pytorch_model.bin", "old.pth", "x.pt", "y.ckpt", "z.gguf"}
    with pytest.raises(RecipeError, match=r"pickle only.*never read") as caught:
        select_files(names, None)
    assert caught.value.facts == ("`old.pth`", "`pytorch_model.bin`", "`x.pt`", "`y.ckpt`")
    assert "safe_serialization" in (caught.value.hint or "")


def test_no_weights_names_what_is_there() -> None:
    with pytest.raises(RecipeError, match="no weights in safetensors") as caught:
        select_files({"config.json", "tiny.gguf", "README.md"}, None)
    assert caught.value.facts == ("`tiny.gguf`",)


@pytest.mark.parametrize(
    "candidates",
    [{"adapter_model.safetensors"}, {"model-00001-of-00002.safetensors", "b.safetensors"}],
)
def test_other_safetensors_are_not_guessed_at(candidates: set[str]) -> None:
    with pytest.raises(RecipeError, match="not known which") as caught:
        select_files({"config.json", *candidates}, None)
    assert caught.value.facts == tuple(f"`{name}`" for name in sorted(candidates))


def test_index_and_another_single_file_are_two_candidates() -> None:
    names = {"config.json", INDEX, "model.safetensors", "m1.safetensors"}
    with pytest.raises(RecipeError, match="two sets of weights"):
        select_files(names, index_of("m1.safetensors"))
    assert "model.safetensors" in select_files(names, index_of("model.safetensors"))


def test_index_that_names_missing_files_lists_them_all() -> None:
    with pytest.raises(VerificationError, match="names 2 weight files") as caught:
        select_files(
            {"config.json", INDEX, "m1.safetensors"},
            index_of("m1.safetensors", "m2.safetensors", "m3.safetensors"),
        )
    assert caught.value.facts == ("`m2.safetensors`", "`m3.safetensors`")


@pytest.mark.parametrize(
    "file",
    [
        "../m.safetensors",
        "/etc/m.safetensors",
        "a\\m.safetensors",
        "-m.safetensors",
        "m.bin",
        "m\x00.safetensors",
        "m\u202e.safetensors",
        "e\u0301.safetensors",
        "C:m.safetensors",
        "x" * 250 + ".safetensors",
        "sub/m.safetensors",
    ],
)
def test_index_with_hostile_names_is_refused(file: str) -> None:
    with pytest.raises(VerificationError):
        select_files({"config.json", INDEX, file}, index_of(file))


@pytest.mark.parametrize("index", [b"{", b"[]", b"{}", b'{"weight_map": {}}', b"<html>", b"\xff"])
def test_index_that_is_none_is_refused(index: bytes) -> None:
    with pytest.raises(VerificationError, match="index"):
        select_files({"config.json", INDEX}, index)


def test_names_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(VerificationError, match="refused") as caught:
        select_files({"config.json", "model.safetensors", "LICENSE", "License"}, None)
    assert caught.value.facts == ("`LICENSE` and `License` clash",)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "a//b",
        "a/../b",
        "./a",
        "a/",
        "a\\b",
        "-a",
        "a/-b",
        "a\nb",
        "a\x7f",
        "C:x",
        "e\u0301",
        "x" * 256,
        "é" * 128,
        "a\u200b",
        "\ud800",
        "\ue000",
    ],
)
def test_unsafe_names(name: str) -> None:
    assert why_unsafe(name)
    with pytest.raises(VerificationError, match="the repo has file names that are refused"):
        check_names(["fine", name], "the repo")


@pytest.mark.parametrize("name", ["a", "a/b.c", "..a", "a..b", "é", "x" * 255, "日本 語", "a-b"])
def test_safe_names(name: str) -> None:
    assert why_unsafe(name) is None


def test_remote_code_is_found_at_any_depth() -> None:
    texts = {
        "config.json": b'{"auto_map": {"AutoModel": "m.M"}, "text": {"auto_map": {"A": "b.B"}}}',
        "tokenizer_config.json": b'{"list": [{"custom_pipelines": {"x": {"impl": "p.P"}}}]}',
    }
    references = remote_code_references(texts)
    assert [line.split(":")[0] for line in references] == [
        "`config.json` has `auto_map`",
        "`config.json` has `text.auto_map`",
        "`tokenizer_config.json` has `list.0.custom_pipelines`",
    ]


def test_configs_without_code_pass() -> None:
    texts = {"config.json": b'{"auto_map": {}, "x": null}', "tokenizer_config.json": b"{}"}
    assert remote_code_references(texts) == []
