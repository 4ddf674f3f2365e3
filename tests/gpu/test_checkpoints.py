"""The checkpoints and recipes for real hardware are sound; this needs no GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.graph.config import graph_problems
from tests.gpu.checkpoints import LARGER, write_source
from tests.gpu.recipes import write_recipe
from tests.standins import Standin
from tests.weights.converting import plan


@pytest.mark.parametrize("name", LARGER)
def test_a_checkpoint_has_heads_that_fused_kernels_take(name: str, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", name)
    config = plan(source, dtype="float16").config
    head_size = config.get("head_size") or config["hidden_size"] // config["num_attention_heads"]
    assert head_size in {64, 128}
    for tp_size, pp_size in ((2, 1), (1, 2)):
        assert plan(source, tp_size, pp_size, dtype="float16").config["mapping"]["world_size"] == 2


def test_a_checkpoint_is_the_same_each_time(tmp_path: Path) -> None:
    folders = [write_source(tmp_path / str(number), "llama") for number in range(2)]
    first, second = ([path.read_bytes() for path in sorted(f.iterdir())] for f in folders)
    assert first == second


def test_one_family_at_least_can_be_compared(tmp_path: Path) -> None:
    config = plan(write_source(tmp_path / "source", "llama"), dtype="float16").config
    assert graph_problems(config, 512) == []


@pytest.mark.parametrize("name", LARGER)
def test_a_machine_with_a_gpu_would_build_the_recipe(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Standin(tmp_path / "machine").use(monkeypatch)
    source = write_source(tmp_path / "source", name)
    recipe = write_recipe(tmp_path / "recipe.yaml", name, source, "sm90", compares=name == "llama")
    arguments = ["plan", str(recipe), "--json", "--store", str(tmp_path / "store")]
    done = CliRunner().invoke(app, arguments)
    document = json.loads(done.stdout)
    assert (done.exit_code, document.get("problems"), document.get("error")) == (0, [], None)
