"""`recipes check` over several files, and `recipes init`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command import run_command


def test_all_wrong_recipes_are_told_at_once_each_with_its_hint(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\nsource: {{path: source}}\n")
    (tmp_path / "a.yaml").write_text("name: a\n")
    (tmp_path / "b.lock.json").write_text("{")
    done = run_command("recipes", "check", "a.yaml", "b.yaml", cwd=tmp_path)
    assert done.returncode == 3
    assert "2 recipes are wrong" in done.stderr
    assert "`a.yaml` has 1 mistake" in done.stderr
    assert "  `b.lock.json` is not valid JSON" in done.stderr
    assert "  hint: bring it back from version control" in done.stderr


def test_a_new_recipe_is_told_in_json_too(tmp_path: Path) -> None:
    done = run_command("recipes", "init", "new", "--repo", "acme/tiny", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"recipe": "new.yaml"}
    assert (tmp_path / "new.yaml").is_file()
