"""Every fault of `bad/` gives exactly the text that is stored beside it.

A fault's first line may hold the command line: `# arguments: --variant NAME --set KEY=VALUE`.
`TRTLLM_PACK_STORE_EXPECTED=1` writes the texts anew: read each one as a user would before you
commit it.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from pipeline.errors import RecipeError
from pipeline.recipe.load import load_recipe

BAD = Path(__file__).parent / "bad"
FAULTS = sorted(path.stem for path in BAD.glob("*.yaml"))


def _arguments(path: Path) -> tuple[str | None, list[str]]:
    """The variant and the overrides that the first line of a fault asks for."""
    first = path.read_bytes().split(b"\n")[0].decode("utf-8", "replace")
    words = shlex.split(first.removeprefix("# arguments: ")) if "# arguments:" in first else []
    pairs = list(zip(words[::2], words[1::2], strict=True))
    variants = [value for option, value in pairs if option == "--variant"]
    return variants[0] if variants else None, [v for option, v in pairs if option == "--set"]


def _render(error: RecipeError) -> str:
    hint = [f"hint: {error.hint}"] if error.hint else []
    return "\n".join([error.message, *error.facts, *hint]) + "\n"


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_reported_as_stored(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD)
    variant, overrides = _arguments(Path(f"{fault}.yaml"))
    with pytest.raises(RecipeError) as caught:
        load_recipe(Path(f"{fault}.yaml"), variant=variant, overrides=overrides)
    expected = Path(f"{fault}.expected.txt")
    if os.environ.get("TRTLLM_PACK_STORE_EXPECTED"):
        expected.write_text(_render(caught.value), encoding="utf-8")
    assert _render(caught.value) == expected.read_text(encoding="utf-8")


def test_every_stored_text_has_its_fault() -> None:
    assert len(FAULTS) >= 30
    assert sorted(path.name.removesuffix(".expected.txt") for path in BAD.glob("*.txt")) == FAULTS
