"""Reading a package `tensorrt_llm` and its `trtllm-build`: what is there, and what goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.doctor import installed as module
from pipeline.doctor.drift import find_drift
from pipeline.doctor.installed import Installed, read_installed
from pipeline.doctor.sections import expected_sections
from tests.command import child_environment
from tests.engines.trtllm.processes import wait_until_gone
from tests.standins.described_package import Described, write_described_package


def use(described: Described, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(described.site))
    monkeypatch.setenv("PATH", f"{described.bin}{os.pathsep}{os.environ['PATH']}")


def read(described: Described, monkeypatch: pytest.MonkeyPatch) -> Installed:
    use(described, monkeypatch)
    found = read_installed()
    assert found is not None
    return found


def test_a_package_as_the_facts_say_has_no_drift(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read(write_described_package(tmp_path / "machine"), monkeypatch)
    assert found.unread == {}
    assert found.versions["tensorrt-llm"] == "1.2.1"
    expected = expected_sections()
    assert found.sections.keys() == expected.keys()
    assert all(found.sections[name].keys() >= rows.keys() for name, rows in expected.items())
    assert find_drift(expected, found.sections) == []


def test_without_a_package_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGE", "tensorrt_llm_that_is_not_there")
    assert read_installed() is None


def test_what_cannot_be_read_says_why_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = write_described_package(tmp_path / "machine")
    package = described.site / "tensorrt_llm"
    (package / "builder.py").write_text("BuildConfigs = 1\n")
    (package / "mapping.py").write_text("raise OSError('libcuda.so.1: cannot open it')\n")
    (described.bin / "trtllm-build").write_text("#!/bin/sh\necho no CUDA device >&2\nexit 3\n")
    found = read(described, monkeypatch)
    assert found.unread.keys() == {"build_config", "mapping", "trtllm_build"}
    assert "AttributeError" in found.unread["build_config"]
    assert "libcuda.so.1" in found.unread["mapping"]
    assert "exit code 3; no CUDA device" in found.unread["trtllm_build"]
    assert "plugin_config" in found.sections


@pytest.mark.parametrize(
    ("init", "told"),
    [
        ("import os; os.abort()", "signal SIGABRT"),
        ("import time; time.sleep(1000)", "no answer within 1 s"),
        ("raise KeyError('gone')", "KeyError: 'gone'"),
    ],
)
def test_a_package_that_ends_the_process_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: str, told: str
) -> None:
    described = write_described_package(tmp_path / "machine")
    (described.site / "tensorrt_llm" / "__init__.py").write_text(init + "\n")
    (described.bin / "trtllm-build").write_text("#!/nowhere/python\n")
    use(described, monkeypatch)
    read_flags = module._read_flags
    monkeypatch.setattr(module, "_read_flags", lambda _: read_flags(60.0))
    found = read_installed(timeout_s=1.0 if "sleep" in init else 60.0)
    assert found is not None
    assert told in found.unread["tensorrt_llm"]
    assert "cannot be started" in found.unread["trtllm_build"]
    assert found.sections == {}


def test_no_program_and_a_silent_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = write_described_package(tmp_path / "machine")
    monkeypatch.syspath_prepend(str(described.site))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = read_installed()
    assert found is not None
    assert found.unread == {"trtllm_build": "`trtllm-build` is not on the PATH"}
    (described.bin / "trtllm-build").write_text("#!/bin/sh\nexit 0\n")
    monkeypatch.setenv("PATH", str(described.bin))
    assert module._read_flags(60.0) == ({}, "`trtllm-build --help` lists no options")


def test_a_child_gets_no_secret_and_a_home_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    told, why = module._answer(["/usr/bin/env"], 60.0)
    assert why is None
    environment = dict(line.split("=", 1) for line in told.splitlines())
    assert "trtllm-pack-" in environment["HOME"]
    assert environment["TMPDIR"] == environment["HOME"] != os.environ.get("HOME")
    assert not Path(environment["HOME"]).exists()
    assert environment["PATH"] == os.environ["PATH"]
    assert not {"HF_TOKEN", "GLIBC_TUNABLES"} & environment.keys()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_doctor_that_is_ended_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    code = (
        "from pipeline.system import interrupts\nfrom pipeline.doctor import installed\n"
        "interrupts.install()\n"
        "print('begins', flush=True)\n"
        f"installed._answer(['/bin/sh', '-c', 'echo > {tmp_path}/at-work; sleep 1000'], 600.0)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=child_environment(TMPDIR=str(temporary)),
        stdout=subprocess.PIPE,
    ) as doctor:
        assert doctor.stdout is not None
        doctor.stdout.readline()
        end = time.monotonic() + 60
        while not (tmp_path / "at-work").exists() and time.monotonic() < end:
            time.sleep(0.01)
        doctor.send_signal(number)
    assert doctor.returncode == (-9 if number == signal.SIGKILL else 143)
    assert wait_until_gone(tmp_path / "at-work") == {}
    end = time.monotonic() + 60
    while any(temporary.iterdir()) and time.monotonic() < end:
        time.sleep(0.02)
    assert list(temporary.iterdir()) == []
