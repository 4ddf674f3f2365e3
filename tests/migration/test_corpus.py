"""Every old command of `corpus/` gives exactly the recipe and the explanation stored beside it.

`TRTLLM_PACK_STORE_EXPECTED=1` writes the texts anew: read each one as a user would before you
commit it. The commands are facts out of public READMEs and issue threads, shortened.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from pipeline.migration.explanation import document, explain
from pipeline.migration.migrate import Migration, Options, migrate
from pipeline.recipe.load import load_recipe

CORPUS = Path(__file__).parent / "corpus"
CASES = sorted(path.name for path in CORPUS.iterdir() if path.suffix in (".sh", ".json", ".md"))


def migrated(case: str, **extra: str) -> Migration:
    """The migration of a case."""
    text = (CORPUS / case).read_text(encoding="utf-8")
    return migrate(text, Options(origin=f"`{case}`", **extra))


def as_stored(migration: Migration) -> str:
    """A migration as it is stored: the recipe, then what is said about it."""
    told = "whole" if migration.is_whole else "not whole"
    return f"{migration.recipe}\n----- {told}\n{explain(migration)}\n"


@pytest.mark.parametrize("case", CASES)
def test_case_is_migrated_as_stored(case: str) -> None:
    found = as_stored(migrated(case))
    expected = CORPUS / f"{case}.expected.txt"
    if os.environ.get("TRTLLM_PACK_STORE_EXPECTED"):
        expected.write_text(found, encoding="utf-8")
    assert found == expected.read_text(encoding="utf-8")


def test_every_stored_text_has_its_case() -> None:
    assert len(CASES) >= 60
    assert sorted(path.name.removesuffix(".expected.txt") for path in CORPUS.glob("*.txt")) == CASES


@pytest.mark.parametrize("case", CASES)
def test_what_is_called_whole_loads_with_every_variant(case: str, tmp_path: Path) -> None:
    migration = migrated(case)
    path = tmp_path / "recipe.yaml"
    path.write_text(migration.recipe, encoding="utf-8")
    if migration.refusals:
        assert not migration.is_whole
        return
    loaded = load_recipe(path)
    assert loaded.recipe.engine.backend == "trtllm"
    assert len(loaded.variants) == len(migration.answers) - 1
    for variant in loaded.variants:
        load_recipe(path, variant=variant)


@pytest.mark.parametrize("case", CASES)
def test_every_flag_of_a_case_is_answered(case: str) -> None:
    if case.endswith(".json"):
        return
    migration = migrated(case)
    answered = {
        word for _, answers in migration.answers for each in answers for word in each.shown.split()
    }
    said = " ".join([*answered, *migration.others])
    for line in (CORPUS / case).read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.lstrip().startswith(("trtllm-build", "python build.py")) and "999" not in line:
            words = shlex.split(line, comments=True)
            flags = [word.split("=")[0] for word in words if word.startswith("--")]
            assert flags
            assert [flag for flag in flags if flag not in said] == []


JSON_CASES = [case for case in CASES if case.endswith(".json") and "fp8" not in case]


@pytest.mark.parametrize("case", JSON_CASES)
def test_a_config_needs_only_its_source(case: str) -> None:
    assert not migrated(case).is_whole
    assert migrated(case, source="owner/model").is_whole


def test_the_document_says_the_same_as_the_text() -> None:
    migration = migrated("llama-every-quantization-flag.sh")
    found = document(migration)
    assert found["recipe"] == migration.recipe
    assert found["whole"] is False
    opened = [flag["flag"] for flag in found["engines"][0]["flags"] if flag["open"]]
    assert "--use_weight_only" in opened
    assert {row["key"] for row in found["engines"][0]["not_given"]} >= {"engine.max_batch_size"}
