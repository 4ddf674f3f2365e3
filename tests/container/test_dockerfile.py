"""The Dockerfile read as text: users, secrets, contents, stages. Building it: `test_image.py`."""

from __future__ import annotations

import json
import re

import pytest

import pipeline
from pipeline.engines.trtllm.environment import kept_variables
from tests.container.dockerfile import ROOT, read_dockerfile

INSTRUCTIONS = read_dockerfile()
IMAGES = ("cpu", "trtllm")
LABELS = {"title", "description", "licenses", "version", "revision", "base.name"}


def texts(stage: str, word: str) -> list[str]:
    return [each.text for each in INSTRUCTIONS if (each.stage, each.word) == (stage, word)]


def variables(stage: str) -> dict[str, str]:
    """Names and values of ENV."""
    return dict(re.findall(r"(\w+)=(\S+)", " ".join(texts(stage, "ENV"))))


def test_the_syntax_is_declared_first() -> None:
    assert (ROOT / "Dockerfile").read_text().startswith("# syntax=docker/dockerfile:1\n")


def test_the_stages() -> None:
    froms = [each.text for each in INSTRUCTIONS if each.word == "FROM"]
    assert froms == [
        "${BASE} AS wheel",
        "${BASE} AS cpu",
        "${TRTLLM_BASE} AS trtllm",
        "cpu",  # what a build without --target makes
    ]


def test_the_arguments_have_defaults_that_hold() -> None:
    assert texts("", "ARG") == [
        "BASE=python:3.12-slim",
        "TRTLLM_BASE=nvcr.io/nvidia/tensorrt-llm/release:1.2.1",
        f"VERSION={pipeline.__version__}",
    ]


@pytest.mark.parametrize("stage", IMAGES)
def test_an_image_runs_the_command_as_nobody_special(stage: str) -> None:
    assert texts(stage, "USER")[-1] == "10001"
    assert json.loads(texts(stage, "ENTRYPOINT")[-1]) == ["trtllm-pack"]
    words = [each.word for each in INSTRUCTIONS if each.stage == stage]
    assert "RUN" not in words[len(words) - words[::-1].index("USER") :]


@pytest.mark.parametrize("stage", IMAGES)
def test_an_image_is_no_service(stage: str) -> None:
    assert texts(stage, "HEALTHCHECK") == ["NONE"]
    assert not [word for word in ("CMD", "EXPOSE", "VOLUME") if texts(stage, word)]


@pytest.mark.parametrize("stage", IMAGES)
def test_what_is_written_lies_where_every_user_may(stage: str) -> None:
    environment = variables(stage)
    folders = [environment["TRTLLM_PACK_STORE"], environment["HF_HOME"]]
    (made,) = [text for text in texts(stage, "RUN") if "useradd" in text]
    assert f"install --directory --mode 1777 {' '.join(folders)}" in made
    assert "useradd --uid 10001" in made


def test_the_driver_and_open_mpi_are_asked_for_what_a_build_needs() -> None:
    environment = variables("trtllm")
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert set(environment["NVIDIA_DRIVER_CAPABILITIES"].split(",")) == {"compute", "utility"}
    assert environment["OMPI_ALLOW_RUN_AS_ROOT"] == "1"
    assert environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] == "1"
    assert environment["OMPI_MCA_btl_vader_single_copy_mechanism"] == "none"
    # They reach the builder, whose environment is a list of names.
    assert kept_variables(environment).keys() >= {
        name for name in environment if name.startswith(("OMPI_", "NVIDIA_"))
    }


@pytest.mark.parametrize("base", ["BASE", "TRTLLM_BASE"])
def test_how_to_pin_a_base_is_said(base: str) -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(rf"--build-arg {base}=\S+@sha256:", text)


@pytest.mark.parametrize("stage", IMAGES)
def test_labels(stage: str) -> None:
    (text,) = texts(stage, "LABEL")
    found = re.findall(r'org\.opencontainers\.image\.([a-z.]+)="([^"]+)"', text)
    assert {name for name, _ in found} == LABELS
    assert dict(found)["base.name"] == ("${BASE}" if stage == "cpu" else "${TRTLLM_BASE}")


def test_only_the_project_is_copied() -> None:
    assert not [each for each in INSTRUCTIONS if each.word == "ADD"]
    copies = [(each.stage, each.text) for each in INSTRUCTIONS if each.word == "COPY"]
    assert copies == [
        ("wheel", "pyproject.toml README.md LICENSE ./"),
        ("wheel", "pipeline ./pipeline"),
    ]


def test_the_context_is_an_allow_list() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    allowed = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    assert allowed == {"pyproject.toml", "README.md", "LICENSE", "pipeline"}


def test_no_secret_has_a_place() -> None:
    secret = re.compile(r"token|secret|password|passwd|credential|api_?key", re.IGNORECASE)
    named = [each for each in INSTRUCTIONS if each.word in {"ARG", "ENV"}]
    names = [name for each in named for name in re.findall(r"(\w+)=", each.text)]
    assert "HF_HOME" in names
    assert not [name for name in names if secret.search(name)]


def test_downloads_stay_in_cache_mounts() -> None:
    runs = [each.text for each in INSTRUCTIONS if each.word == "RUN" and "pip" in each.text]
    assert len(runs) == 3
    assert all(run.startswith("--mount=type=cache,target=/root/.cache/pip ") for run in runs)


def test_the_packages_of_the_base_stay_as_they_are() -> None:
    (run,) = [text for text in texts("trtllm", "RUN") if "pip" in text]
    assert "venv --system-site-packages --without-pip /opt/trtllm-pack" in run
    assert "--python /opt/trtllm-pack/bin/python install --constraint" in run
    for flag in ("--upgrade", "--force-reinstall", "--ignore-installed", "--break-system-packages"):
        assert flag not in run
