"""`trtllm-pack doctor`, as a user runs it."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from pipeline import __version__
from pipeline.doctor.backends import backend_facts
from pipeline.doctor.examination import examine
from pipeline.engines import BACKENDS
from pipeline.hardware import Hardware
from tests.command import ROOT, run_command
from tests.doctor.test_drift import change_everything
from tests.doctor.test_software import TOKEN
from tests.standins.described_package import Described, write_described_package


@pytest.fixture(scope="module")
def as_known(tmp_path_factory: pytest.TempPathFactory) -> Described:
    return write_described_package(tmp_path_factory.mktemp("known") / "machine")


def test_this_machine_for_people(tmp_path: Path) -> None:
    env = {"HF_TOKEN": TOKEN, "TRTLLM_PACK_STORE": str(tmp_path / "s")}
    done = run_command("doctor", "--require", "onnxruntime", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert TOKEN not in done.stdout
    for heading in ("machine", "GPUs", "engine backends", "container", "installed TensorRT-LLM"):
        assert f"\n{heading}\n" in "\n" + done.stdout
    assert f"store        {tmp_path / 's'}" in done.stdout
    assert "token      present (HF_TOKEN)" in done.stdout
    assert "not tested" in done.stdout
    assert "the engine is for" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_this_machine_for_machines(tmp_path: Path) -> None:
    done = run_command("doctor", "--json", "--store", tmp_path, env={"HF_TOKEN": TOKEN})
    assert (done.returncode, done.stderr) == (0, "")
    assert TOKEN not in done.stdout
    document = json.loads(done.stdout)
    assert document["trtllm_pack"] == __version__
    assert tuple(sorted(document["backends"])) == tuple(sorted(BACKENDS))
    assert document["hub"]["token"] == {"present": True, "from": "HF_TOKEN"}
    assert document["required"] == {"backends": [], "missing": []}


def test_a_required_backend_that_cannot_build_is_exit_code_4() -> None:
    done = run_command("doctor", "--json", "--require", "onnxruntime", "--require", "trtllm")
    assert done.returncode == 4
    assert json.loads(done.stdout)["required"]["missing"] == ["trtllm"]


def test_a_name_that_is_no_backend_is_a_usage_error() -> None:
    done = run_command("doctor", "--require", "tensort")
    assert (done.returncode, done.stdout) == (2, "")
    assert "`--require tensort` names no backend" in done.stderr


def test_a_machine_with_the_release_that_we_know(as_known: Described, tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    done = run_command("doctor", "--write-facts", path, env=as_known.environment())
    assert (done.returncode, done.stderr) == (0, "")
    assert "tensorrt-llm 1.2.1" in done.stdout
    assert "no drift that matters" in done.stdout
    written = json.loads(path.read_text())
    assert written["versions"]["tensorrt-llm"] == "1.2.1"
    assert written["sections"]["build_config"]["max_input_len"]["default"] == 1024
    assert [child.name for child in tmp_path.iterdir()] == ["facts.json"]


def test_a_machine_whose_release_drifted(tmp_path: Path) -> None:
    described = write_described_package(tmp_path / "machine", change_everything)
    (described.bin / "trtllm-build").unlink()
    done = run_command("doctor", env=described.environment())
    assert done.returncode == 0
    assert "not read: trtllm_build: `trtllm-build` is not on the PATH" in done.stdout
    assert "matters: field of PluginConfig `use_paged_context_fmha` has another" in done.stdout
    assert "harmless: architecture of MODEL_MAP `PelicanForCausalLM` is new" in done.stdout
    assert "no drift" not in done.stdout
    assert done.stdout.count("--write-facts FILE` writes with a report") == 1


def test_facts_of_nothing_are_an_error(tmp_path: Path) -> None:
    done = run_command("doctor", "--write-facts", tmp_path / "facts.json")
    assert (done.returncode, done.stdout) == (4, "")
    assert "`tensorrt_llm` is not installed here" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_told(as_known: Described, tmp_path: Path) -> None:
    path = tmp_path / "no" / "folder" / "facts.json"
    done = run_command("doctor", "--write-facts", path, env=as_known.environment())
    assert done.returncode == 4
    assert f"`{path}` cannot be written" in done.stderr


def test_no_network_request_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    document = examine(tmp_path, None)
    assert document["hub"]["reachable"].startswith("not tested")
    assert document["tensorrt_llm"]["installed"] is False


RECIPE = ROOT / "recipes" / "demo.yaml"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The demo model for TensorRT-LLM."""
    path = tmp_path / "engine.yaml"
    engine = "{backend: trtllm, targets: [sm90], max_batch_size: 4, max_input_len: 256}"
    path.write_text(f"extends: {RECIPE}\nengine: {engine}\n")
    return path


def concerned(described: Described, recipe: Path) -> tuple[int, str]:
    store = ("--store", recipe.parent / "store")
    done = run_command("doctor", "--recipe", recipe, *store, env=described.environment())
    assert done.stderr == ""
    return done.returncode, done.stdout.partition(f"what concerns {recipe}\n")[2]


def test_what_a_recipe_uses_and_only_that_concerns_it(
    as_known: Described, recipe: Path, tmp_path: Path
) -> None:
    assert concerned(as_known, recipe) == (0, "  nothing\n")

    def without_paging(facts: Any) -> None:
        del facts["plugin_config"]["use_paged_context_fmha"]
        del facts["plugin_config"]["qserve_gemm_plugin"]

    code, told = concerned(write_described_package(tmp_path / "other", without_paging), recipe)
    assert code == 4
    assert "`use_paged_context_fmha`" in told
    assert "qserve" not in told


def test_a_recipe_of_another_backend_has_nothing_to_do_with_it(as_known: Described) -> None:
    done = run_command("doctor", "--recipe", RECIPE, env=as_known.environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert "does not build with TensorRT-LLM" in done.stderr


def test_without_a_gpu_nothing_is_said_of_an_engine_that_is_not_there() -> None:
    bare = Hardware(num_cpus=2, available_memory_bytes=1 << 34, gpus=())
    (row,) = backend_facts(bare)["trtllm"]["runs"]
    assert row == {"target": None, "runs": False, "why_not": "no NVIDIA GPU"}
