"""Stage `convert` on real files: artifact, key, facts, ledgers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.artifact import Artifact, describe
from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.errors import VerificationError
from pipeline.families import find_family
from pipeline.files.journal import JOURNAL_NAME
from pipeline.plan import Plan
from pipeline.progress import Silent
from pipeline.stages import convert
from pipeline.stages.convert import STAGE
from tests import tiny
from tests.weights import converting
from tests.weights.resuming import Told, contents, convert_until, tiny_steps


def plan(source: Path, tp_size: int = 1, pp_size: int = 1, dtype: str = "bfloat16") -> Plan:
    """What the stage reads of a plan."""
    conversion = converting.plan(source, tp_size, pp_size, dtype)
    return cast(
        Plan,
        SimpleNamespace(conversion=conversion, max_memory_bytes=1 << 28),
    )


def downloaded(folder: Path) -> Artifact:
    return Artifact(folder, describe(folder, "download", "d" * 64, {}, {}))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny.write_checkpoint(tmp_path / "source")


def test_the_artifact_is_a_checkpoint_with_its_ledgers(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    facts = STAGE.run(
        plan(source, 2, 1, "float16"), {"download": downloaded(source)}, out, Silent()
    )
    assert sorted(path.name for path in out.iterdir()) == [
        *(JOURNAL_NAME, "config.json", "ledger.json", "rank0.safetensors", "rank1.safetensors")
    ]
    checkpoint = open_trtllm_checkpoint(out)
    assert checkpoint.config["dtype"] == "float16"
    assert list(facts["rank_bytes"]) == [
        (out / f"rank{rank}.safetensors").stat().st_size for rank in range(2)
    ]
    assert facts["tensors"] == {"used": 30, "cast": 30, "dropped": 0}
    ledger = json.loads((out / "ledger.json").read_text())
    assert ledger["tensors"].keys() == tiny.shapes(tiny.CONFIG).keys()
    assert ledger["config"].keys() >= tiny.CONFIG.keys()
    assert json.loads(json.dumps(facts)) == facts
    assert (
        STAGE.summary(facts)
        == f"2 rank files, float16, {sum(facts['rank_bytes']):,} bytes, 30 cast"
    )


def test_the_key_changes_with_all_that_decides_the_bytes(source: Path, tmp_path: Path) -> None:
    keys = {"download": "d" * 64}
    plans = [
        plan(source),
        plan(source, 2),
        plan(source, 1, 3),
        plan(source, dtype="float16"),
        plan(tiny.write_checkpoint(tmp_path / "o", {**tiny.CONFIG, "rope_theta": 5e5})),
    ]
    other: Any = plan(source)
    family = find_family("LlamaForCausalLM")
    reversed_rules = dataclasses.replace(family, weight_map=family.weight_map[::-1])
    other.conversion = dataclasses.replace(other.conversion, family=reversed_rules)
    found = [STAGE.key(each, keys) for each in [*plans, other]]
    assert len(set(found)) == len(found)
    assert STAGE.key(plan(source), keys) == found[0]
    assert STAGE.key(plan(source), {"download": "e" * 64}) != found[0]
    assert STAGE.key(plan(source), {}) is None


def test_a_failure_leaves_no_checkpoint(source: Path, tmp_path: Path) -> None:
    made = plan(source)
    artifact = downloaded(source)
    (source / "model-00002-of-00002.safetensors").write_bytes(b"")
    (tmp_path / "out").mkdir()
    with pytest.raises(VerificationError):
        STAGE.run(made, {"download": artifact}, tmp_path / "out", Silent())
    with pytest.raises(VerificationError):
        open_trtllm_checkpoint(tmp_path / "out")


def test_it_goes_on_where_an_earlier_run_was_ended(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of the rank files, and between them and the ledgers."""
    inputs, made = {"download": downloaded(source)}, plan(source, 2, 1, "float16")
    (tmp_path / "whole").mkdir()
    facts = STAGE.run(made, inputs, tmp_path / "whole", Silent())
    expected = contents(tmp_path / "whole")
    tiny_steps(monkeypatch)
    out = tmp_path / "out"
    convert_until(made.conversion, source, out, 60)
    with monkeypatch.context() as patch:
        patch.setattr(convert, "write_json", interrupt)
        with pytest.raises(KeyboardInterrupt):
            STAGE.run(made, inputs, out, Silent())
    assert (out / JOURNAL_NAME).exists()
    published(out)
    told = Told()
    assert STAGE.run(made, inputs, out, told) == facts
    assert (told.written, told.skipped) == (0, made.conversion.target_bytes)
    assert contents(out) == expected
    assert [entry.path for entry in downloaded(out).manifest.files] == sorted(expected)
    assert STAGE.resumable


def published(folder: Path) -> None:
    """As far as a kill lets it come: all is read-only, and there is a manifest."""
    (folder / "artifact.json").write_text("{")
    for path in folder.iterdir():
        path.chmod(0o444)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt
