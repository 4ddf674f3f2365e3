"""Recipes that are bombs, pipes or circles, and values of recipes that make a plan explode."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.errors import PipelineError, RecipeError
from pipeline.recipe.load import load_recipe
from pipeline.recipe.strict_yaml import MAX_BYTES, MAX_NODES
from tests.command import RECIPES, run_command

HEAD = "name: x\nsource: {path: m}\n"
MAX_SECONDS = 60.0  # of this thread's own time: tells what explodes, not how fast it is

BOMBS: dict[str, str] = {
    "unknown keys": HEAD + "".join(f"k{number}: 1\n" for number in range(100_000)),
    "near keys": HEAD + "engine:\n" + "".join(f"  max_batch_siz{n}: 1\n" for n in range(45_000)),
    "one long key": HEAD + "k" * 1_000_000 + ": 1\n",
    "a long list": HEAD + "engine: {targets: [" + ",".join(["s"] * 400_000) + "]}\n",
    "many prompts": HEAD + "smoke: {prompts: [" + ",".join(["{txt: a}"] * 90_000) + "]}\n",
    "many variants": HEAD + "variants: {" + ",".join(f"v{n}: {{}}" for n in range(80_000)) + "}\n",
    "aliases": HEAD + "a: &a [x]\n" + "".join(f"k{n}: *a\n" for n in range(80_000)),
    "laughs": "".join(f"{c}: &{c} [*{p},*{p}]\n" for p, c in pairwise("abcdefghi")) + HEAD,
    "anchors": HEAD + "".join(f"k{n}: &a{n} 1\n" for n in range(60_000)),
    "tags": HEAD + "a: !!python/object/apply:os.system [id]\n" * 25_000,
    "merge keys": HEAD + "<<: {a: 1}\n" * 90_000,
    "flow in flow": HEAD + "a: " + "[" * 500_000,
    "maps in maps": HEAD + "a: " + "{a: " * 250_000,
    "lists in lists": HEAD + "a:\n" + "- " * 500_000 + "x\n",
    "complex keys": HEAD + "? " * 400_000 + "\n",
    "documents": "---\n" * 250_000,
    "repeated keys": HEAD + "a: 1\n" * 200_000,
    "control characters": "\x01\n" * 500_000,
    "a regex": HEAD + "smoke: {prompts: [{text: a, expect: {matches: '" + "(" * 400_000 + "'}}]}\n",
    "digits": HEAD + "engine: {max_batch_size: " + "9" * 1_000_000 + "}\n",
    "a large file": HEAD + "#" * MAX_BYTES,
    "code names": "name: x\nsource: {path: m, remote_code: {"
    + ",".join(f"m{number}.py: a" for number in range(60_000))
    + "}}\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(BOMBS[name] if name == "a large file" else BOMBS[name][:MAX_BYTES])
    began = time.thread_time()
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert time.thread_time() - began < MAX_SECONDS
    told = "\n".join([caught.value.message, *caught.value.facts])
    assert len(told) < 60_000
    assert all(line.isprintable() for line in told.split("\n"))


def test_a_recipe_of_many_values_is_refused_by_their_number(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(HEAD + "".join(f"k{number}: 1\n" for number in range(MAX_NODES)))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert f"more than {MAX_NODES} keys and values" in "\n".join(caught.value.facts)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop", "gone", "memory"])
def test_recipes_that_are_no_files(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to("x.yaml")
        case "gone":
            path.symlink_to("nowhere")
        case "memory":
            path.symlink_to("/proc/self/mem")
    child = tmp_path / "child.yaml"
    child.write_text("extends: x.yaml\n")
    for recipe in (path, child):
        with pytest.raises(PipelineError) as caught:
            load_recipe(recipe)
        assert caught.value.exit_code in {3, 4}


def test_circles_and_chains(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: ./c.yaml\n")
    (tmp_path / "c.yaml").symlink_to("a.yaml")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "a.yaml")
    assert "in a circle" in "\n".join(caught.value.facts)
    for number in range(40):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {number + 1}.yaml\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "0.yaml")
    assert "at most 10 parents" in "\n".join(caught.value.facts)


@pytest.mark.parametrize(
    "override",
    [
        "engine.targets=" + "[" * 10_000,
        "engine.targets=[" + "a," * 100_000 + "]",
        "a." * 10_000 + "b=1",
        "name=" + "x" * 100_000,
        "source.path=\x00",
        "source.path=~nobody/x",
        "engine.max_batch_size=" + "9" * 100_000,
        "=" * 10_000,
        "smoke.prompts=[{text: *a}]",
        "source.remote_code={../x.py: " + "0" * 64 + "}",
    ],
)
def test_hostile_overrides(override: str, tmp_path: Path) -> None:
    from pipeline.hardware import Hardware
    from pipeline.plan import resolve
    from pipeline.sources.digest_memory import DigestMemory

    (tmp_path / "x.yaml").write_text(HEAD)
    with pytest.raises(RecipeError):
        loaded = load_recipe(tmp_path / "x.yaml", overrides=[override])
        hardware = Hardware(num_cpus=2, available_memory_bytes=1 << 30, gpus=())
        resolve(loaded, memory=DigestMemory(tmp_path), hardware=hardware, cache_dir=tmp_path)


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "..", "x\n", "-x", "X", "x" * 101, "", "\0"])
def test_names_that_are_paths(name: str, tmp_path: Path) -> None:
    import json

    path = tmp_path / "x.yaml"
    path.write_text(f"name: {json.dumps(name)}\nsource: {{path: m}}\n")
    with pytest.raises(RecipeError):
        load_recipe(path)


@pytest.mark.parametrize("out", ["store", "store/artifacts/x", "link", "recipe", "checkpoint"])
def test_out_is_never_the_store_or_the_source(out: str, tmp_path: Path) -> None:
    """Refused before any work, and what stands there stays."""
    import shutil

    shutil.copytree(RECIPES / "demo" / "checkpoint", tmp_path / "checkpoint")
    (tmp_path / "r.yaml").write_text(
        "name: r\nsource: {path: checkpoint}\nengine: {backend: onnxruntime, targets: [sm80]}\n"
    )
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.txt").write_text("mine")
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to("store")
    before = sorted(path.name for path in (tmp_path / "checkpoint").iterdir())
    done = run_command("convert", "r.yaml", "--store", "store", "--out", out, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == before
    assert (tmp_path / "recipe" / "mine.txt").read_text() == "mine"
    assert (tmp_path / "link").is_symlink()
    assert not list((tmp_path / "store").glob("artifacts/*/*"))
