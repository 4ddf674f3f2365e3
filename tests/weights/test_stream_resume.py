"""Conversions that go on: equal bytes wherever they were ended, and nothing is done twice."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from pipeline.errors import MachineError, RecipeError, VerificationError
from pipeline.files import journal as lines
from pipeline.files.journal import JOURNAL_NAME, read_journal
from pipeline.weights import keeper, schedule, stream
from pipeline.weights.layout import ConversionPlan
from tests import tiny
from tests.weights.converting import convert, plan
from tests.weights.resuming import (
    Told,
    contents,
    convert_on,
    convert_until,
    kept_in_place,
    tiny_steps,
)

NUM_TOKENS = 41
CONFIG = {**tiny.CONFIG, "vocab_size": NUM_TOKENS, "num_hidden_layers": 2}


@pytest.fixture(autouse=True)
def _tiny_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_steps(monkeypatch)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_checkpoint(tmp_path_factory.mktemp("source") / "c", CONFIG)


@pytest.fixture
def made(source: Path) -> ConversionPlan:
    """Two ranks, all tensors cast but for the columns that are computed without."""
    return plan(source, 2, 1, "float16")


@pytest.fixture
def whole(made: ConversionPlan, source: Path, tmp_path: Path) -> dict[str, bytes]:
    return contents(convert(made, source, tmp_path / "whole"))


def claims(folder: Path) -> list[int]:
    """How many steps each line of a journal says are done."""
    return [line.value[0] for line in read_journal(folder / JOURNAL_NAME)[1:]]


def num_planned(made: ConversionPlan, folder: Path) -> int:
    """How many steps there are at the pace of a journal."""
    header = read_journal(folder / JOURNAL_NAME)[0].value
    pace = schedule.Pace(header["block_bytes"], header["most_bytes"])
    return len(list(schedule.steps(schedule.all_work(made), pace)))


def num_steps(made: ConversionPlan, source: Path, folder: Path) -> int:
    folder.mkdir()
    convert_on(made, source, folder)
    return claims(folder)[-1]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(("tp_size", "pp_size"), [(1, 1), (2, 1), (2, 2), (6, 1)])
def test_it_goes_on_from_any_place(
    tp_size: int, pp_size: int, dtype: str, source: Path, tmp_path: Path
) -> None:
    """With other numbers of threads, and no step is done twice but those that were at work."""
    made = plan(source, tp_size, pp_size, dtype)
    expected = contents(convert(made, source, tmp_path / "whole"))
    every = num_steps(made, source, tmp_path / "all")
    assert every > 60
    for number, after in enumerate(range(2, every, every // 6)):
        out, threads = tmp_path / f"out{number}", number % 3 + 1
        first = convert_until(made, source, out, after, num_threads=threads)
        claimed = max(claims(out), default=0)
        # Of several threads one may stand still at the first step while the others do the rest.
        assert claimed > 0 or after <= 30 or threads > 1
        told = convert_on(made, source, out, num_threads=3 - number % 3)
        assert contents(out) == expected
        assert told.skipped + told.written == told.total == made.target_bytes
        assert told.skipped <= first.written
        assert claims(out)[-1] == num_planned(made, out)
        assert claims(out) == sorted(set(claims(out)))  # each step is counted once
        if after > 30 and claimed:
            assert told.skipped > 0
            assert told.notes == [
                f"goes on at {100 * told.skipped // made.target_bytes} % of an earlier run"
            ]


def test_it_is_ended_again_and_again(
    made: ConversionPlan, whole: dict[str, bytes], source: Path, tmp_path: Path
) -> None:
    out, written, ends = tmp_path / "out", 0, 0
    while not (out / "config.json").exists():
        try:
            out.mkdir(exist_ok=True)
            told = Told(25)
            convert_on(made, source, out, told=told)
        except KeyboardInterrupt:
            ends += 1
        written += told.written
    assert contents(out) == whole
    assert ends > 3
    assert written < made.target_bytes + ends * 3 * STEP_ROOM


STEP_ROOM = 4096
"""More than a step writes."""


def test_steps_that_were_counted_are_not_done_again_and_all_others_are(
    made: ConversionPlan, whole: dict[str, bytes], source: Path, tmp_path: Path
) -> None:
    """Every rank file is filled with 0xff before it goes on: what stays is what was skipped."""
    out = tmp_path / "out"
    convert_until(made, source, out, 90)
    for rank in made.ranks:
        with (out / rank.file).open("r+b") as file:
            file.seek(len(rank.header))
            file.write(b"\xff" * (rank.num_bytes - len(rank.header)))
    told = convert_on(made, source, out)
    kept = 0
    for rank in made.ranks:
        found, expected = (np.frombuffer(d[rank.file], np.uint8) for d in (contents(out), whole))
        differs = found != expected
        assert (found[differs] == 0xFF).all()
        kept += int(differs.sum())
    # Zeros are never written, and some bytes are 0xff by themselves.
    assert 0.8 * told.skipped < kept + sum(len(rank.header) for rank in made.ranks) + 1000
    assert kept <= told.skipped


def test_every_prefix_of_a_journal(
    made: ConversionPlan, whole: dict[str, bytes], source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    convert_until(made, source, out, 70)
    data = (out / JOURNAL_NAME).read_bytes()
    written = read_journal(out / JOURNAL_NAME)
    ends = [line.end for line in written]
    done = dict(zip(ends, [0, *(line.value[2] for line in written[1:])], strict=True))
    begun_bytes = sum(len(rank.header) for rank in made.ranks) + zero_bytes(made)
    near = {end + shift for end in [*ends[:3], *ends[-2:]] for shift in (-1, 0, 1)}
    cuts = sorted({0, 1, *range(0, len(data), 101), *near} - {len(data) + 1})
    assert len(cuts) > 20
    for cut in cuts:
        with kept_in_place(out):
            (out / JOURNAL_NAME).write_bytes(data[:cut])
            told = convert_on(made, source, out)
            assert contents(out) == whole, cut
            counted = max((begun_bytes + done[end] for end in ends if end <= cut), default=0)
            assert told.skipped == counted
            assert bool(told.notes) == (counted > 0)
            out_files = {path.name for path in out.iterdir()}
            assert out_files == {*whole, JOURNAL_NAME}
        if cut < ends[0]:  # it began anew, in other files: make it as it was
            shutil.rmtree(out)
            convert_until(made, source, out, 70)
            data = (out / JOURNAL_NAME).read_bytes()


def damage_line(out: Path, made: ConversionPlan) -> None:
    path = out / JOURNAL_NAME
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)


def damage_header(out: Path, made: ConversionPlan) -> None:
    with (out / made.ranks[1].file).open("r+b") as file:
        file.seek(len(made.ranks[1].header) - 1)
        file.write(b"x")


def shorten_rank(out: Path, made: ConversionPlan) -> None:
    os.truncate(out / made.ranks[1].file, made.ranks[1].num_bytes - 1)


def remove_rank(out: Path, made: ConversionPlan) -> None:
    (out / made.ranks[0].file).unlink()


def exchange_rank(out: Path, made: ConversionPlan) -> None:
    """The same bytes in another file, as a copied store has."""
    shutil.copyfile(out / "rank0.safetensors", out / "copy")
    (out / "copy").replace(out / "rank0.safetensors")


def link_rank(out: Path, made: ConversionPlan) -> None:
    (out / "rank0.safetensors").rename(out / "other")
    (out / "rank0.safetensors").symlink_to("other")


def remove_journal(out: Path, made: ConversionPlan) -> None:
    (out / JOURNAL_NAME).unlink()


def other_format(out: Path, made: ConversionPlan) -> None:
    (out / JOURNAL_NAME).unlink()
    written = lines.Journal.create(out / JOURNAL_NAME)
    written.append(["of", "another", "format"], synced=True)
    written.close()


@pytest.mark.parametrize(
    "damage",
    [
        *(damage_line, damage_header, shorten_rank, remove_rank, exchange_rank, link_rank),
        *(remove_journal, other_format),
    ],
)
def test_what_is_not_as_it_was_left_begins_anew(
    damage: Any, made: ConversionPlan, whole: dict[str, bytes], source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    convert_until(made, source, out, 70)
    (out / "stray").write_text("left by something else")
    damage(out, made)
    told = convert_on(made, source, out)
    assert (told.skipped, told.written) == (0, made.target_bytes)
    assert contents(out) == whole


def test_a_journal_of_another_plan_begins_anew(
    made: ConversionPlan, source: Path, tmp_path: Path
) -> None:
    others = [plan(source, 2, 1, "bfloat16"), plan(source, 1, 2, "float16"), plan(source, 6)]
    others.append(dataclasses.replace(made, clamp=True))
    folder = tiny.write_checkpoint(tmp_path / "deeper", {**CONFIG, "rope_theta": 5e5})
    for number, (other, where) in enumerate([*((p, source) for p in others), (None, folder)]):
        out = tmp_path / f"out{number}"
        convert_until(made, source, out, 70)
        other = other or plan(folder, 2, 1, "float16")
        assert not convert_on(other, where, out).skipped
        assert contents(out) == contents(convert(other, where, tmp_path / f"whole{number}"))


def test_a_program_that_cuts_the_work_in_another_way_begins_anew(
    made: ConversionPlan,
    whole: dict[str, bytes],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number, dtype in enumerate(["float16", "bfloat16"]):
        planned, out = plan(source, 2, 1, dtype), tmp_path / f"out{number}"
        convert_until(planned, source, out, 70)
        with monkeypatch.context() as patch:
            if number:
                patch.setattr(schedule, "_COPY_STEP_BYTES", 2048)
            else:
                patch.setattr(stream, "steps", backwards)
            assert convert_on(planned, source, out).skipped == 0
        assert contents(out) == contents(convert(planned, source, tmp_path / f"whole{number}"))


def backwards(work: schedule.Work, pace: schedule.Pace) -> list[schedule.Step]:
    return list(schedule.steps(work, pace))[::-1]


def test_it_keeps_the_pace_that_it_began_with(
    made: ConversionPlan, whole: dict[str, bytes], source: Path, tmp_path: Path
) -> None:
    """Where the memory allows it: with fewer threads, or else from zero."""
    paces = []
    for number, (block_bytes, memory, threads, goes_on) in enumerate(
        [(1 << 20, 8 << 20, 4, True), (300, 1 << 30, 1, True), (1024, 8 << 20, 1, False)]
    ):
        out = tmp_path / f"out{number}"
        # One thread with much memory takes more at once than all may in the least memory.
        convert_until(made, source, out, 70, max_memory_bytes=64 << 20 if number == 2 else 8 << 20)
        header = read_journal(out / JOURNAL_NAME)[0].value
        told = convert_on(
            *(made, source, out),
            max_block_bytes=block_bytes,
            max_memory_bytes=memory,
            num_threads=threads,
        )
        assert contents(out) == whole
        assert (told.skipped > 0) == goes_on
        after = read_journal(out / JOURNAL_NAME)[0].value
        assert (after == header) == goes_on
        paces.append(after["most_bytes"])
    assert paces[0] == paces[1] == paces[2]


def test_config_json_is_gone_while_rank_files_are_not_whole(
    made: ConversionPlan, whole: dict[str, bytes], source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    convert_until(made, source, out, 70)
    (out / "config.json").write_text("{")
    convert_until(made, source, out, 5)
    assert contents(convert_and_get(made, source, out)) == whole


def convert_and_get(made: ConversionPlan, source: Path, out: Path) -> Path:
    convert_on(made, source, out)
    return out


def test_a_finished_conversion_writes_nothing_but_config_json(
    made: ConversionPlan, whole: dict[str, bytes], source: Path, tmp_path: Path
) -> None:
    """Where the kill came between its end and that of the stage."""
    out = tmp_path / "out"
    out.mkdir()
    convert_on(made, source, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "config.json").write_text("")
    told = convert_on(made, source, out)
    assert (told.written, told.skipped) == (0, made.target_bytes)
    assert contents(out) == whole
    for rank in made.ranks:
        assert (out / rank.file).stat().st_mtime_ns == before[rank.file]


def test_without_the_boot_only_what_was_synced_counts(
    made: ConversionPlan,
    whole: dict[str, bytes],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "SYNC_INTERVAL_S", 3600.0)
    out = tmp_path / "out"
    convert_until(made, source, out, 70)
    monkeypatch.setattr(lines, "boot_id", lambda: "another")
    told = convert_on(made, source, out)
    assert told.notes  # the files are those of the journal: it goes on, from the first step
    assert told.skipped == sum(len(rank.header) for rank in made.ranks) + zero_bytes(made)
    assert contents(out) == whole


def zero_bytes(made: ConversionPlan) -> int:
    return schedule.all_work(made).zero_bytes


def test_bad_casts_are_told_whenever_they_were_met(tmp_path: Path) -> None:
    """One early, one late: the step of the first is never counted as done."""
    arrays = tiny.tensors(CONFIG, "float32")
    arrays["model.layers.0.self_attn.q_proj.weight"][3, 4] = 1e5
    arrays["model.layers.1.mlp.up_proj.weight"][7, 4] = -1e5
    source = tiny.write_checkpoint(tmp_path / "source", CONFIG, arrays)
    made = plan(source, 2, 1, "float16")
    with pytest.raises(RecipeError) as expected:
        convert(made, source, tmp_path / "whole")
    assert len(expected.value.facts) == 2
    for number, after in enumerate([60, 120, 180]):
        out = tmp_path / f"out{number}"
        convert_until(made, source, out, after, num_threads=2)
        for threads in (1, 3):
            with pytest.raises(RecipeError) as caught:
                convert_on(made, source, out, num_threads=threads)
            assert caught.value.facts == expected.value.facts
        assert not (out / "config.json").exists()
    assert claims(out)


def test_a_source_that_changed_is_refused_before_anything_is_touched(
    made: ConversionPlan, source: Path, tmp_path: Path
) -> None:
    folder, out = shutil.copytree(source, tmp_path / "source"), tmp_path / "out"
    convert_until(made, folder, out, 70)
    before = contents(out)
    tiny.write_checkpoint(folder, {**CONFIG, "intermediate_size": 74})
    with pytest.raises(VerificationError, match="not the one that the conversion was planned for"):
        convert_on(made, folder, out)
    assert contents(out) == before


def test_padding_stays_zero(tmp_path: Path) -> None:
    """Zeros are not written: those of the new file are still there when it goes on."""
    config = {**CONFIG, "vocab_size": 3}
    source = tiny.write_checkpoint(tmp_path / "source", config)
    made, out = plan(source, 6, 1, "float16"), tmp_path / "out"
    convert_until(made, source, out, 40)
    convert_on(made, source, out)
    assert not load_file(out / "rank5.safetensors")["lm_head.weight"].any()
    assert contents(out) == contents(convert(made, source, tmp_path / "whole"))


def test_a_folder_that_is_not_there(made: ConversionPlan, source: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot be read or written"):
        convert_on(made, source, tmp_path / "nowhere")


def test_lines_are_few(
    made: ConversionPlan, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock: all steps of a short conversion share the last line."""
    monkeypatch.setattr(keeper, "LINE_INTERVAL_S", 3600.0)
    assert num_steps(made, source, tmp_path / "out") > 60
    assert len(claims(tmp_path / "out")) == 1
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float16"


def test_claims_grow_by_what_is_finished(
    made: ConversionPlan, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    convert_on(made, source, tmp_path / "out", num_threads=4)
    assert all(one < other for one, other in pairwise(claims(tmp_path / "out")))
