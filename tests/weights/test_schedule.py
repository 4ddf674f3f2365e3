"""The order in which a conversion reads: every byte once and forward; and how much it holds."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ResourceError
from pipeline.weights import stream
from tests import tiny
from tests.weights.converting import convert, plan

LAYOUTS = [(1, 1), (2, 1), (6, 1), (1, 3), (2, 2), (6, 3)]
TIED = {**tiny.CONFIG, "tie_word_embeddings": True}
Reads = dict[str, list[tuple[int, int]]]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Every read of a weight file in the order of time: file -> (first byte, byte after).

    What is copied to several ranks in one step is read by the first copy; it is at hand for the
    others.
    """
    found: Reads = defaultdict(list)
    read, copy = os.preadv, os.copy_file_range

    def record(descriptor: int, offset: int, count: int) -> None:
        file = Path(f"/proc/self/fd/{descriptor}").readlink().name
        if found[file][-1:] != [(offset, offset + count)]:
            found[file].append((offset, offset + count))

    def recorded_read(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        count = read(descriptor, buffers, offset)
        record(descriptor, offset, count)
        return count

    def recorded_copy(source: int, target: int, count: int, offset: int, place: int) -> int:
        copied = copy(source, target, count, offset, place)
        record(source, offset, copied)
        return copied

    monkeypatch.setattr(os, "preadv", recorded_read)
    monkeypatch.setattr(os, "copy_file_range", recorded_copy)
    return found


def assert_once_and_forward(reads: Reads, folder: Path) -> None:
    """Each file is read without gap from its first tensor to its end, and nothing twice."""
    for path in folder.glob("*.safetensors"):
        position = 8 + int.from_bytes(path.read_bytes()[:8], "little")
        for begin, end in reads[path.name]:
            assert begin == position, path.name
            position = end
        assert position == path.stat().st_size


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(("tp_size", "pp_size"), LAYOUTS)
def test_every_byte_is_read_once_and_forward(
    tp_size: int, pp_size: int, dtype: str, reads: Reads, tmp_path: Path
) -> None:
    """In any layout: what several tp or pp ranks hold is read for all of them together."""
    source = tiny.write_checkpoint(tmp_path / "source", num_files=3)
    made = plan(source, tp_size, pp_size, dtype)
    convert(made, source, tmp_path / "out", num_threads=1)
    assert_once_and_forward(reads, source)


@pytest.mark.parametrize("block_bytes", [1, 500, 1 << 20])
def test_small_blocks_keep_the_order(block_bytes: int, reads: Reads, tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "source", num_files=2)
    out = tmp_path / "out"
    convert(plan(source, 2, 2, "float32"), source, out, num_threads=1, max_block_bytes=block_bytes)
    assert_once_and_forward(reads, source)


@pytest.mark.parametrize("tp_size", [1, 2])
def test_a_tied_embedding_is_read_once_for_both_uses(
    tp_size: int, reads: Reads, tmp_path: Path
) -> None:
    """The embedding is whole on the first pp rank, the head is shared out on the last."""
    source = tiny.write_checkpoint(tmp_path / "source", TIED, num_files=1)
    convert(plan(source, tp_size, 3), source, tmp_path / "out", num_threads=1)
    assert_once_and_forward(reads, source)


def test_files_are_read_one_after_the_other(reads: Reads, tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "source", num_files=3)
    convert(plan(source, 2, 3), source, tmp_path / "out", num_threads=1)
    assert list(reads) == sorted(path.name for path in source.glob("*.safetensors"))


CHILD = """\
import json, sys
from pathlib import Path
import numpy, ml_dtypes
from pipeline.weights import blocks, stream
from tests.weights.converting import plan
from pipeline.progress import Silent
source, out, tp_size, dtype, limit = json.loads(sys.argv[1])
made = plan(Path(source), tp_size, 1, dtype)
Path(out).mkdir()

def kib(field):
    return int(Path("/proc/self/status").read_text().partition(field + ":")[2].split()[0])

Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before = kib("VmRSS")
stream.write_checkpoint(
    made, Path(source), Path(out), Silent(), max_block_bytes=limit, max_memory_bytes=limit
)
print(kib("VmHWM") - before)
"""

WIDE = {
    **tiny.CONFIG,
    "vocab_size": 16384,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 1,
    "num_attention_heads": 8,
    "head_dim": 128,
}


def zeros(folder: Path, config: dict[str, Any]) -> Path:
    """A source of this shape whose values are all zero: large, yet of no size on the disk."""
    from pipeline.checkpoint.safetensors_file import ITEM_BYTES, encode_header

    tiny.write_checkpoint(folder, tiny.CONFIG, num_files=1)
    (folder / "config.json").write_text(json.dumps(config))
    entries = [(name, "bfloat16", shape) for name, shape in tiny.shapes(config).items()]
    head = encode_header(entries)
    size = sum(ITEM_BYTES[d] * math.prod(shape) for _, d, shape in entries)
    path = folder / "model.safetensors"
    path.write_bytes(head)
    os.truncate(path, len(head) + size)
    return folder


@pytest.mark.parametrize("limit_mib", [16, 64])
@pytest.mark.parametrize(("tp_size", "dtype"), [(1, "bfloat16"), (2, "bfloat16"), (1, "float32")])
def test_the_memory_limit_holds(tp_size: int, dtype: str, limit_mib: int, tmp_path: Path) -> None:
    """Peak memory of a whole process, above what it had before it began to convert."""
    source = zeros(tmp_path / "source", WIDE)
    given = [str(source), str(tmp_path / "out"), tp_size, dtype, limit_mib << 20]
    command = [sys.executable, "-c", CHILD, json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= limit_mib << 10


def test_a_limit_below_one_row_is_refused(tmp_path: Path) -> None:
    """Before anything is written."""
    config = {**tiny.CONFIG, "hidden_size": 1 << 19, "vocab_size": 2, "intermediate_size": 6}
    source = zeros(tmp_path / "source", config)
    out = tmp_path / "out"
    with pytest.raises(ResourceError, match=r"a row of `model\.\S+` takes [\d,]+ bytes") as caught:
        convert(plan(source, dtype="float32"), source, out, max_memory_bytes=8 << 20)
    assert not list(out.iterdir())
    assert caught.value.hint is not None
    assert "--max-memory" in caught.value.hint
    convert(plan(source, dtype="float32"), source, tmp_path / "n", max_memory_bytes=16 << 20)


def test_a_limit_below_the_least_is_refused(tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "source")
    with pytest.raises(ResourceError, match="cannot work in 1,000 bytes"):
        convert(plan(source), source, tmp_path / "out", max_memory_bytes=1000)


def test_files_are_equal_to_the_byte_for_any_memory(tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "source")
    contents = set()
    for number, limit in enumerate([stream.MIN_MEMORY_BYTES, 8 << 20, 1 << 40]):
        out = tmp_path / f"out{number}"
        convert(plan(source, 2, 2, "float16"), source, out, max_memory_bytes=limit)
        contents.add(tuple(path.read_bytes() for path in sorted(out.iterdir())))
    assert len(contents) == 1
