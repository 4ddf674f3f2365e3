"""The documents agree with the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from pipeline.cli.stage_commands import STAGE_HELP
from pipeline.families import all_families
from pipeline.recipe.schema import Recipe
from tests.command import ROOT, run_command

RECIPE_DOC = (ROOT / "docs" / "recipe.md").read_text()
README = (ROOT / "README.md").read_text()


def keys(model: type[Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all keys that hold a value."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if hasattr(inner, "model_fields"):
            yield from keys(inner, f"{prefix}{name}.")
        else:
            yield prefix + name
            if type(None) in get_args(inner):  # a section that may be left out
                for section in get_args(inner):
                    if hasattr(section, "model_fields"):
                        yield from keys(section, f"{prefix}{name}.")


def test_every_key_of_a_recipe_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^\| `([a-z0-9_.]+)`", RECIPE_DOC, re.MULTILINE))
    assert documented == set(keys(Recipe)) | {"extends", "variants"}


def test_every_family_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "families.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    documented = {
        row[0].strip("| `"): (
            set(re.findall(r"`(\w+)`", row[1])),
            row[3].strip("`"),
            row[4].strip(" |"),
        )
        for row in rows
    }
    assert documented == {
        family.name: (
            set(family.architectures),
            family.model_class.name,
            "yes" if family.model_class.is_pipelined else "no",
        )
        for family in all_families()
    }


@pytest.mark.parametrize("command", [*STAGE_HELP, "plan", "verify", "inspect", "recipes"])
def test_the_readme_names_every_command(command: str) -> None:
    assert re.search(rf"\b{command}\b", README)


def test_the_readme_leads_with_the_two_commands() -> None:
    head = README.split("##")[0]
    assert head.index("make demo") < head.index("make test")


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_of_the_readme_lead_somewhere(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(
    ("command", "default"),
    [
        ("run", "Artifact store (default: the user's cache)"),
        ("run", "in MB (default: 256)"),
        ("migrate", "may be repeated (default: sm90)"),
    ],
)
def test_help_texts_keep_their_defaults(command: str, default: str) -> None:
    shown = run_command(command, "--help", env={"COLUMNS": "300", "TERMINAL_WIDTH": "300"}).stdout
    assert default in " ".join(shown.split())


def test_no_help_text_has_brackets_that_the_display_would_take_for_markup() -> None:
    for path in (ROOT / "pipeline" / "cli").glob("*.py"):
        assert not re.search(r'help="[^"]*\[', path.read_text()), path.name
