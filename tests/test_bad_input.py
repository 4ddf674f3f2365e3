"""Bad input through the real command: one clear error, the right exit code, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command import RECIPES, run_command

Spoil = Callable[[Path], None]

RECIPE = """\
name: small
source: {path: checkpoint}
engine:
  backend: tensorrt
  targets: [sm80]
  max_batch_size: 2
  max_input_len: 64
  max_seq_len: 128
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a good recipe and a copy of the demo checkpoint."""
    shutil.copytree(RECIPES / "demo" / "checkpoint", tmp_path / "checkpoint")
    (tmp_path / "small.yaml").write_text(RECIPE)
    return tmp_path


def edit_config(place: Path, **changes: Any) -> None:
    path = place / "checkpoint" / "config.json"
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps(config))


def recipe_line(old: str, new: str) -> Spoil:
    def spoil(place: Path) -> None:
        path = place / "small.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return spoil


def config(**changes: Any) -> Spoil:
    return lambda place: edit_config(place, **changes)


def rename_tensor(place: Path) -> None:
    """The header of one weight file names a tensor differently, with the same length."""
    path = weight_file(place)
    data = path.read_bytes()
    assert data.count(b"q_proj") > 0
    path.write_bytes(data.replace(b"q_proj", b"q_prox", 1))


def weight_file(place: Path) -> Path:
    return sorted((place / "checkpoint").glob("*.safetensors"))[0]


def truncate(place: Path) -> None:
    path = weight_file(place)
    path.write_bytes(path.read_bytes()[:-100])


def garbage(place: Path) -> None:
    weight_file(place).write_bytes(b"\xff" * 4096)


def lose_weight_file(place: Path) -> None:
    weight_file(place).unlink()


def wrong_index(place: Path) -> None:
    path = place / "checkpoint" / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    files = sorted(set(index["weight_map"].values()))
    name = next(iter(index["weight_map"]))
    index["weight_map"][name] = files[1 - files.index(index["weight_map"][name])]
    path.write_text(json.dumps(index))


def only_pickle(place: Path) -> None:
    folder = place / "checkpoint"
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")


def remote_code(place: Path) -> None:
    edit_config(place, auto_map={"AutoModelForCausalLM": "modeling_x.XForCausalLM"})
    (place / "checkpoint" / "modeling_x.py").write_text("raise SystemExit(99)\n")


CASES: dict[str, tuple[Spoil, int, str]] = {
    "unknown key": (recipe_line("max_batch_size", "max_batchsize"), 3, "max_batch_size"),
    "duplicate key": (recipe_line("name: small\n", "name: small\nname: twice\n"), 3, "twice"),
    "wrong type": (recipe_line("max_batch_size: 2", "max_batch_size: two"), 3, "small.yaml:6"),
    "missing checkpoint": (recipe_line("path: checkpoint", "path: elsewhere"), 3, "elsewhere"),
    "missing and extra tensor": (rename_tensor, 6, "q_prox"),
    "lost weight file": (lose_weight_file, 6, ".safetensors"),
    "index disagrees": (wrong_index, 6, "index"),
    "truncated weights": (truncate, 6, ".safetensors"),
    "malformed weights": (garbage, 6, ".safetensors"),
    "unknown architecture": (config(architectures=["SparkForCausalLM"]), 3, "SparkForCausalLM"),
    "unknown config key": (config(attention_temperature=2.0), 3, "attention_temperature"),
    "heads not divisible": (
        recipe_line("engine:", "checkpoint: {tp_size: 3}\nengine:"),
        3,
        "tp_size",
    ),
    "float32 fused": (
        recipe_line("engine:", "checkpoint: {dtype: float32}\nengine:"),
        3,
        "float32",
    ),
    "hopper with RTX": (recipe_line("[sm80]", "[sm90]"), 3, "sm90"),
    "too long a sequence": (recipe_line("max_seq_len: 128", "max_seq_len: 100000"), 3, "100000"),
    "backend not installed here": (
        recipe_line("backend: tensorrt", "backend: trtllm"),
        4,
        "trtllm",
    ),
    "engine required": (
        recipe_line("name: small\n", "name: small\nsmoke: {require_engine: true}\n"),
        4,
        "require_engine",
    ),
    "pickle weights": (only_pickle, 3, "pickle"),
    "remote code": (remote_code, 3, "auto_map"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_one_clear_error(place: Path, name: str, command: str) -> None:
    spoil, code, word = CASES[name]
    spoil(place)
    done = run_command(command, "small.yaml", "--store", "store", cwd=place)
    told = done.stderr + done.stdout
    assert done.returncode == code, told
    assert word in told
    assert "hint: " in told
    assert "Traceback" not in told
    assert not list(place.glob("store/artifacts/*/*"))
    assert not list(place.glob("store/work/*"))


def test_the_unspoiled_recipe_has_no_problems(place: Path) -> None:
    done = run_command("plan", "small.yaml", "--store", "store", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "no problems found" in done.stdout
    assert not (place / "store" / "artifacts").exists()


def test_errors_are_one_json_document_for_machines(place: Path) -> None:
    CASES["hopper with RTX"][0](place)
    done = run_command("run", "small.yaml", "--store", "store", "--json", cwd=place)
    document = json.loads(done.stdout)
    assert done.returncode == document["error"]["exit_code"] == 3
    assert document["error"]["problems"][0]["stage"] == "build"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "nowhere.yaml"], 3),
        (["run"], 2),
        (["run", "small.yaml", "--variant", "none"], 3),
        (["run", "small.yaml", "--set", "engine.max_seq=1"], 3),
        (["verify", "nowhere"], 2),
        (["inspect", "nowhere"], 2),
        (["frobnicate"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_usage(place: Path, arguments: list[str], code: int) -> None:
    done = run_command(*arguments, cwd=place)
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_a_store_that_cannot_be_written(place: Path) -> None:
    (place / "file").write_text("not a folder")
    done = run_command("run", "small.yaml", "--store", "file/store", cwd=place)
    assert done.returncode == 4, done.stderr
    assert "--store" in done.stderr


@pytest.mark.parametrize("command", [("plan", "small.yaml"), ("cache", "ls")])
def test_a_store_whose_name_is_not_utf8(place: Path, command: tuple[str, ...]) -> None:
    """ONNX Runtime cannot be given such a path; nothing is made there before that is known."""
    done = run_command(*command, "--store", os.fsdecode(b"s\xff"), cwd=place)
    assert done.returncode == 2
    assert "is not UTF-8" in done.stderr
    assert "hint: " in done.stderr
    assert {path.name for path in place.iterdir()} == {"checkpoint", "small.yaml"}
