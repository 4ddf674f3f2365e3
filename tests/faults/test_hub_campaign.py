"""The short form of the hub campaign: `python -m tests.faults.hub` plays more of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.hub.campaign import run
from tests.faults.hub.catalogue import KINDS

SEED = 1
NUM_CASES = 130


@pytest.mark.timeout(1800)
def test_whatever_hub_and_network_do(tmp_path: Path) -> None:
    tally = run(SEED, range(NUM_CASES), tmp_path, workers=4, slow_share=0.06)
    sys.stdout.write(f"seed {SEED}\n{tally.table()}\n")
    assert not tally.wrong, "\n".join(tally.wrong)
    assert tally.cases == NUM_CASES
    played = {name for (name, outcome), _ in tally.outcomes.items() if outcome != "not reached"}
    assert len(played & {kind.name for kind in KINDS}) > 0.6 * len(KINDS)
