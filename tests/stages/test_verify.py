"""Stage `verify` on real files: the parity record, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pipeline.artifact import Artifact, describe
from pipeline.checkpoint.safetensors_file import read_header
from pipeline.errors import VerificationError
from pipeline.plan import Plan
from pipeline.progress import Silent
from pipeline.stages.verify import STAGE
from tests import tiny
from tests.weights import converting


def artifact(folder: Path, stage: str) -> Artifact:
    return Artifact(folder, describe(folder, stage, stage[0] * 64, {}, {}))


@pytest.mark.parametrize(
    ("dtype", "summary"),
    [
        ("float32", "30 tensors equal to the byte"),
        ("bfloat16", "30 tensors cast, relative error up to 0.0039"),
    ],
)
def test_the_record_is_written_and_told(dtype: str, summary: str, tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "source", dtype="float32")
    conversion = converting.plan(source, 2, 2, dtype)
    converted = converting.convert(conversion, source, tmp_path / "converted")
    plan = cast(Plan, SimpleNamespace(conversion=conversion, family=conversion.family))
    inputs = {"download": artifact(source, "download"), "convert": artifact(converted, "convert")}
    (tmp_path / "out").mkdir()
    facts = STAGE.run(plan, inputs, tmp_path / "out", Silent())
    assert json.loads((tmp_path / "out" / "parity.json").read_text()) == facts
    assert facts["structure"]["source_tensors"] == 30
    assert STAGE.summary(facts) == summary
    assert STAGE.key(plan, {name: item.key for name, item in inputs.items()}) is not None


def test_a_wrong_weight_is_named(tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "source")
    conversion = converting.plan(source)
    converted = converting.convert(conversion, source, tmp_path / "converted")
    info = read_header(converted / "rank0.safetensors")["transformer.layers.1.mlp.gate.weight"]
    with (converted / "rank0.safetensors").open("r+b") as file:
        file.seek(info.offset)
        file.write(b"\xff")
    plan = cast(Plan, SimpleNamespace(conversion=conversion, family=conversion.family))
    inputs = {"download": artifact(source, "download"), "convert": artifact(converted, "convert")}
    (tmp_path / "out").mkdir()
    with pytest.raises(VerificationError) as caught:
        STAGE.run(plan, inputs, tmp_path / "out", Silent())
    (fact,) = caught.value.facts
    assert fact == (
        "row 0 of `transformer.layers.1.mlp.gate.weight` in `rank0.safetensors` is not what "
        "`model.layers.1.mlp.up_proj.weight` holds"
    )
    assert not list((tmp_path / "out").iterdir())
