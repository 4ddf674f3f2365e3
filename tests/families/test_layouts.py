"""Any architecture in any layout and dtype: converted and compared, or refused with what works."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

from pipeline.errors import RecipeError
from pipeline.families import find_family
from pipeline.progress import Silent
from pipeline.weights.layout import ConversionPlan, plan_conversion
from pipeline.weights.parallel import Parallelism
from pipeline.weights.roundtrip import compare
from tests.families.fixtures import FIXTURES, NAMES, open_fixture
from tests.weights.converting import convert

NUM_CASES = 2500
TP_SIZES = (1, 2, 3, 4, 5, 6, 8, 12)


def draw(rng: random.Random) -> tuple[str, Parallelism, str]:
    """One checkpoint, one layout, one dtype."""
    tp_size = rng.choice(TP_SIZES)
    parallelism = Parallelism(
        tp_size,
        rng.choice((1, 2, 3)),
        moe_ep_size=rng.choice([size for size in (1, 2, 4) if tp_size % size == 0]),
        embedding_dim=rng.choice((None, 0, 1)),
    )
    return rng.choice(NAMES), parallelism, rng.choice(("bfloat16", "float16", "float32"))


def planned(name: str, parallelism: Parallelism, dtype: str) -> ConversionPlan | None:
    """The plan; None where it is refused, which must be by a fact and with a way out."""
    source = open_fixture(name)
    try:
        return plan_conversion(source, find_family(source.architecture), parallelism, dtype)
    except RecipeError as error:
        refusal = error
    assert "`checkpoint." in refusal.message
    assert refusal.hint
    return None


def test_random_layouts(tmp_path: Path) -> None:
    rng = random.Random(20261122)
    converted = refused = 0
    for _ in range(NUM_CASES):
        name, parallelism, dtype = draw(rng)
        made = planned(name, parallelism, dtype)
        if made is None:
            refused += 1
            continue
        out = convert(made, FIXTURES / name, tmp_path / "out")
        compare(made, FIXTURES / name, out, Silent())
        shutil.rmtree(out)
        converted += 1
    sys.stdout.write(f"{converted} converted and compared, {refused} refused\n")
    assert converted > 200
    assert refused > 200
