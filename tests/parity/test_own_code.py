"""`source.remote_code` with the real transformers: a source with Python code of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.command import run_command
from tests.families.fixtures import FIXTURES

pytestmark = pytest.mark.torch

CONFIGURATION = """\
from transformers import LlamaConfig


class OwnConfig(LlamaConfig):
    model_type = "llama"
"""

MODEL = """\
import os
import sys
import warnings

from transformers import LlamaForCausalLM as Theirs

from .configuration_own import OwnConfig
from .scaling_own import scaled

assert "OWN_SECRET" not in os.environ and "HF_TOKEN" not in os.environ, sorted(os.environ)
assert os.environ["HF_HUB_OFFLINE"] == "1"
assert sys.dont_write_bytecode
assert os.path.realpath(__file__).startswith(os.path.realpath(os.getcwd())), __file__
assert os.path.realpath(os.environ["HOME"]) == os.path.realpath(os.getcwd())


class LlamaForCausalLM(Theirs):
    config_class = OwnConfig

    def forward(self, *args, **kwargs):
        return scaled(super().forward(*args, **kwargs))
"""

SCALING = """\
def scaled(output):
    output.logits = output.logits * FACTOR
    return output
"""


def make_source(folder: Path, factor: str = "1.0") -> dict[str, str]:
    """A Llama whose class is in its folder; the SHA-256 of its code."""
    source = Path(shutil.copytree(FIXTURES / "llama", folder / "source"))
    config = json.loads((source / "config.json").read_text())
    own = {
        "auto_map": {
            "AutoConfig": "configuration_own.OwnConfig",
            "AutoModelForCausalLM": "modeling_own.LlamaForCausalLM",
        },
    }
    (source / "config.json").write_text(json.dumps(config | own))
    code = {
        "configuration_own.py": CONFIGURATION,
        "modeling_own.py": MODEL,
        "scaling_own.py": SCALING.replace("FACTOR", factor),
    }
    for name, text in code.items():
        (source / name).write_text(text)
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in code.items()}


def convert(folder: Path, code: dict[str, str], *, logits: bool = True) -> Any:
    recipe = {
        "name": "own",
        "source": {"path": "source", **({"remote_code": code} if code else {})},
        "engine": {"backend": "onnxruntime", "targets": ["sm80"]},
        "verify": {"logits": logits},
    }
    (folder / "own.yaml").write_text(json.dumps(recipe))
    secrets = {"OWN_SECRET": "x", "HF_TOKEN": "hf_" + "a" * 34, "HF_HOME": str(folder / "home")}
    return run_command("convert", "own.yaml", "--store", "store", "--json", cwd=folder, env=secrets)


def test_code_that_computes_the_same_is_compared(tmp_path: Path) -> None:
    code = make_source(tmp_path)
    done = convert(tmp_path, code)
    assert done.returncode == 0, done.stderr + done.stdout
    stages = {stage["stage"]: stage for stage in json.loads(done.stdout)["stages"]}
    reference = stages["verify"]["facts"]["logits"]["reference"]
    assert reference["class"] == "LlamaForCausalLM"
    assert reference["code"] == code
    fetched = {file["name"] for file in stages["download"]["facts"]["files"]}
    assert set(code) <= fetched
    assert not list((tmp_path / "store").rglob("*.pyc"))
    assert not list((tmp_path / "store").rglob("transformers_modules"))
    assert not (tmp_path / "home").exists()
    for stage in ("convert", "verify"):
        folder = tmp_path / "store" / "artifacts" / stage
        assert not list(folder.rglob("*.py"))


def test_code_that_computes_something_else_is_found(tmp_path: Path) -> None:
    done = convert(tmp_path, make_source(tmp_path, factor="1.01"))
    assert done.returncode == 6, done.stderr + done.stdout
    assert "does not compute what transformers computes" in done.stdout


def test_other_code_has_another_key(tmp_path: Path) -> None:
    keys = []
    for number, factor in enumerate(("1.0", "1")):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = convert(folder, make_source(folder, factor))
        assert done.returncode == 0, done.stderr + done.stdout
        keys.append({one["stage"]: one["key"] for one in json.loads(done.stdout)["stages"]})
    assert keys[0]["download"] != keys[1]["download"]
    assert keys[0]["verify"] != keys[1]["verify"]


@pytest.mark.parametrize("fault", ["no key", "no logits", "other bytes", "unnamed", "unneeded"])
def test_without_all_of_it_nothing_is_executed(fault: str, tmp_path: Path) -> None:
    code = make_source(tmp_path)
    trap = f"open({str(tmp_path / 'executed')!r}, 'w')\n"
    path = tmp_path / "source" / "scaling_own.py"
    path.write_text(trap + path.read_text())
    named = {**code, "scaling_own.py": hashlib.sha256(path.read_bytes()).hexdigest()}
    match fault:
        case "no key":
            named = {}
        case "other bytes":
            named = code
        case "unnamed":
            del named["scaling_own.py"]
        case "unneeded":
            (tmp_path / "source" / "more.py").write_text(trap)
            named["more.py"] = hashlib.sha256(trap.encode()).hexdigest()
    done = convert(tmp_path, named, logits=fault != "no logits")
    assert done.returncode in {3, 6}, done.stderr + done.stdout
    assert "remote_code" in done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "store" / "artifacts").exists()


def test_code_that_fails_is_a_plain_error(tmp_path: Path) -> None:
    make_source(tmp_path)
    path = tmp_path / "source" / "scaling_own.py"
    path.write_text("raise RuntimeError('this code does not work here')\n")
    code = {
        one.name: hashlib.sha256(one.read_bytes()).hexdigest()
        for one in (tmp_path / "source").glob("*.py")
    }
    done = convert(tmp_path, code)
    assert done.returncode == 1, done.stderr + done.stdout
    assert "this code does not work here" in done.stdout
    assert "Traceback" not in done.stderr + done.stdout
