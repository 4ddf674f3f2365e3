"""Records of runs: whole, and of use to later plans only where they make sense."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from published import publish

from pipeline.errors import ResourceError
from pipeline.hardware import Hardware
from pipeline.plan import Plan
from pipeline.run import StageResult
from pipeline.run_record import past_seconds, write_run_record
from pipeline.store import Store


def toy_plan() -> Plan:
    plan = SimpleNamespace(
        recipe=SimpleNamespace(name="toy"),
        engine=SimpleNamespace(name="toys"),
        conversion=SimpleNamespace(target_bytes=1000),
        hardware=Hardware(2, 10**9, ()),
    )
    return cast(Plan, plan)


def record(**changes: Any) -> str:
    stage = {"stage": "convert", "key": "ab", "reused": False, "seconds": 3.0}
    document = {"name": "toy", "backend": "toys", "checkpoint_bytes": 1000, "stages": [stage]}
    return json.dumps(document | changes)


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "{",
        "5",
        "[]",
        "null",
        "[" * 100_000,
        record(checkpoint_bytes="many"),
        record(stages=[5]),
        record(stages=5),
        record(stages=[{"stage": "convert"}]),
        record(stages=[{"stage": "convert", "reused": False, "seconds": "long"}]),
    ],
    ids=lambda text: text[:20],
)
def test_a_damaged_record_says_nothing(store: Store, damaged: str) -> None:
    folder = store.make_folder("runs")
    (folder / "1-toy.json").write_text(record())
    (folder / "2-toy.json").write_text(damaged)
    assert past_seconds(toy_plan(), store) == {"convert": 3.0}


def test_the_newest_record_counts(store: Store) -> None:
    folder = store.make_folder("runs")
    (folder / "1-toy.json").write_text(record())
    newer = {"stage": "convert", "key": "ab", "reused": False, "seconds": 4.0}
    (folder / "2-toy.json").write_text(record(stages=[newer]))
    (folder / "3-toy.json").write_text(record(stages=[newer | {"reused": True, "seconds": 0.0}]))
    assert past_seconds(toy_plan(), store) == {"convert": 4.0}


def test_a_record_that_finds_no_room_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    stage = SimpleNamespace(name="convert")
    result = StageResult(cast(Any, stage), publish(store, {"f": b"f"}), reused=False, seconds=1.0)
    monkeypatch.setattr("os.write", full)
    with pytest.raises(ResourceError, match="cannot be written: No space left") as caught:
        write_run_record(toy_plan(), store, [result])
    assert caught.value.hint
    assert not list((store.root / "runs").iterdir())
