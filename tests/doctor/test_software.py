"""Packages, programs, tokens, and what each backend says."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.doctor import backends, software
from pipeline.engines import BACKENDS
from pipeline.hardware import Gpu, Hardware

TOKEN = "hf_" + "a1B2" * 8


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No token anywhere; the place of the file."""
    for name in (*software.TOKENS, "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    return tmp_path / "token"


def test_no_token(no_token: Path) -> None:
    assert software.token_facts() == {"present": False, "from": None}
    no_token.touch()
    assert software.token_facts()["present"] is False


@pytest.mark.parametrize("name", software.TOKENS)
def test_a_token_of_the_environment_is_named_and_not_told(
    no_token: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, TOKEN)
    assert software.token_facts() == {"present": True, "from": name}
    monkeypatch.setenv(name, "  ")
    assert software.token_facts()["present"] is False


def test_a_token_file(no_token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_token.write_text(TOKEN)
    assert software.token_facts() == {"present": True, "from": str(no_token)}
    monkeypatch.setenv("HF_TOKEN_PATH", str(no_token.with_name("other")))
    assert software.token_facts()["present"] is False


@pytest.mark.parametrize(("value", "present"), [(None, False), ("  ", False), ("ms-1", True)])
def test_a_token_of_modelscope(
    value: str | None, present: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELSCOPE_API_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("MODELSCOPE_API_TOKEN", value)
    name = "MODELSCOPE_API_TOKEN" if present else None
    assert software.modelscope_facts() == {"present": present, "from": name}


def test_packages_are_told_by_what_they_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = [
        "numpy<3,>=1.26",
        "tensorrt-llm<1.3,>=1.2.1; extra == 'trtllm'",
        'tensorrt-rtx-libs==1.7; (os_name == "posix" or os_name == "nt") and extra == "rtx"',
        "pytest<10; extra == 'dev'",
    ]
    monkeypatch.setattr(software, "requires", lambda _: requirements)
    monkeypatch.setattr(
        software, "installed", lambda names: {"numpy": "2.1"} if "numpy" in names else {}
    )
    assert software.package_facts() == {
        "core": {"numpy": "2.1"},
        "trtllm": {"tensorrt-llm": None},
        "rtx": {"tensorrt-rtx-libs": None},
    }


def test_a_folder_of_sources_names_no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "DISTRIBUTION", "not-a-distribution-at-all")
    assert software.package_facts() == {}


def test_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mpirun").write_text("#!/bin/sh\n")
    (tmp_path / "mpirun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = software.program_facts()
    assert found.keys() == software.PROGRAMS.keys()
    assert {name for name, path in found.items() if path} == {"mpirun"}


def test_every_backend_explains_itself() -> None:
    facts = backends.backend_facts(Hardware(8, 1 << 36, ()))
    assert tuple(facts) == BACKENDS
    for backend in facts.values():
        assert backend["builds"] is (backend["why_not"] is None)
        (row,) = backend["runs"]
        assert row["target"] is None
        assert row["runs"] is (row["why_not"] is None)
    assert facts["onnxruntime"]["builds"]
    assert facts["onnxruntime"]["runs"][0]["runs"]
    assert "GPU" in facts["tensorrt"]["runs"][0]["why_not"]


def test_one_row_for_each_kind_of_gpu() -> None:
    gpus = tuple(Gpu("x", target, 1 << 34, "580") for target in ("sm90", "sm89", "sm90", "sm30"))
    rows = backends.backend_facts(Hardware(8, 1 << 36, gpus))["tensorrt"]["runs"]
    assert [row["target"] for row in rows] == ["sm30", "sm89", "sm90"]
    assert rows[0]["why_not"] == "`sm30` is not a known target"
