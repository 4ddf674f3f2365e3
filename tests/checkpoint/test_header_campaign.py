"""5,000 corrupted headers: refused with file and reason, or read as the official library does."""

from __future__ import annotations

import json
import random
import re
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from pipeline.checkpoint.safetensors_file import read_header
from pipeline.errors import VerificationError
from tests.checkpoint.mutants import CLASSES, Base

SEED = 20261122
FILE = "model-00001-of-00002.safetensors"
MAX_SECONDS = 5.0  # tells a reader that hangs; how fast it is, is not for a test
FIXTURES = Path(__file__).parent.parent / "fixtures"

ON_PURPOSE = re.compile(
    r"its name (is empty|has|looks)"  # names that could break a path, a terminal or a log
    r"|repeated key"  # of which the library takes the last
    r"|unknown dtype `F([46]|8_.*FNUZ)"  # less than a byte; of no model that is converted
    r"|its entry is not an object"  # fields that we do not know, or a list of the three
    r"|`__metadata__` is not an object"  # null
    r"|shape is not a list of at most 64"
    r"|not two byte positions"  # of 64 bits
)
"""What we refuse although the library reads it."""


def bases() -> list[Base]:
    """Real headers: two weight files of the fixtures, and one of every dtype by the library."""
    found = []
    for path in sorted((FIXTURES / "llama").glob("*.safetensors")):
        data = path.read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        found.append((json.loads(data[8:end]), data[end:]))
    dtypes = ["bool", "int8", "uint16", "float16", "int32", "float32", "uint64", "float64"]
    data = save({f"{d}.weight": np.arange(3 * n).astype(d) for n, d in enumerate(dtypes)})
    end = 8 + int.from_bytes(data[:8], "little")
    return [*found, (json.loads(data[8:end]), data[end:])]


Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]
SPELLED = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64", "bool": "BOOL"}


def by_the_library(data: bytes) -> Tensors | str:
    """Dtype, shape and bytes of each tensor, or why the library refuses the file."""
    try:
        found = deserialize(data)
    except SafetensorError as error:
        return str(error)
    return {name: (e["dtype"], tuple(e["shape"]), bytes(e["data"])) for name, e in found}


def by_us(path: Path, data: bytes) -> Tensors | VerificationError:
    """The same by our reader. Any other error, slowness, or memory for a claim fails the test."""
    path.write_bytes(data)
    tracemalloc.start()
    began = time.thread_time()  # of this thread alone: other work on the machine does not count
    try:
        found = read_header(path, FILE)
    except VerificationError as error:
        return error
    finally:
        seconds, peak_bytes = time.thread_time() - began, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seconds < MAX_SECONDS
        assert peak_bytes < 32 * len(data) + (1 << 20)
    tensors: Tensors = {}
    for name, info in found.items():
        spelled = SPELLED.get(info.dtype, info.dtype)
        spelled = re.sub(r"^u?int(\d+)$", lambda m: m[0][0].upper() + m[1], spelled)
        spelled = {"float8_e4m3fn": "F8_E4M3", "complex64": "C64"}.get(spelled, spelled)
        tensors[name] = (spelled, info.shape, data[info.offset : info.offset + info.num_bytes])
    return tensors


def assert_told_well(error: VerificationError) -> None:
    """The file, the tensor where it is one's fault, the reason; nothing that drives a terminal."""
    assert FILE in error.message
    told = "\n".join([error.message, *error.facts])
    assert all(line.isprintable() for line in told.split("\n")), told
    assert len(told) < 20_000
    for fact in error.facts:
        assert re.match(r"tensor `.*`: \S|its tensors end|`__metadata__` is|and \d+ more", fact)


def test_5000_corrupted_headers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(SEED)
    given = bases()
    counts: dict[str, Counter[str]] = {name: Counter() for name in CLASSES}
    for name, (mutate, count) in CLASSES.items():
        for number in range(count):
            data = mutate(given[number % len(given)], rng)
            ours, theirs = by_us(tmp_path / FILE, data), by_the_library(data)
            if isinstance(ours, VerificationError):
                assert_told_well(ours)
                told = "\n".join([ours.message, *ours.facts])
                on_purpose = not isinstance(theirs, str)
                assert not on_purpose or ON_PURPOSE.search(told), (name, told, data[:300])
                counts[name]["refused on purpose" if on_purpose else "refused"] += 1
            else:
                assert ours == theirs, (name, theirs, data[:300])
                counts[name]["read"] += 1
    total: Counter[str] = sum(counts.values(), Counter())
    lines = [
        f"{name:<15} {', '.join(f'{n} {kind}' for kind, n in sorted(found.items()))}"
        for name, found in {**counts, "all": total}.items()
    ]
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert total.total() == 5000
    assert counts["reordered"].keys() == {"read"}
    assert min(total["read"], total["refused on purpose"]) > 100
