"""External data of an ONNX file: which files it needs, and whether its weights lie inside them.

Format: ONNX, "External Data" (docs/ExternalData.md of onnx 1.23): `location` is relative to the
ONNX file and must stay below its folder; `offset` and `length` are in bytes; without `length` the
weight ends with the file, without `offset` it begins with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.checkpoint.strict_json import printable
from pipeline.onnx_files.model import Model, Weight, dtype_bits
from pipeline.sources.names import why_unsafe

FileSize = Callable[[str], int | None]
"""Location -> bytes of that file, None where it is not there. Asked for safe locations alone."""


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of a weight in its file."""

    weight: str
    location: str
    begin: int
    end: int


def sizes_beside(path: Path) -> FileSize:
    """Sizes of the files beside an ONNX file."""

    def size(location: str) -> int | None:
        file = path.parent / location
        return file.stat().st_size if file.is_file() else None

    return size


def external_files(model: Model) -> tuple[str, ...]:
    """The locations that the file names, sorted."""
    return tuple(sorted({w.external.location for w in model.weights() if w.external}))


def external_bytes(model: Model, location: str) -> int:
    """Bytes that weights have in a file; those that several weights share count once."""
    ranges = [found for found in _ranges(model.weights()) if found.location == location]
    total, reached = 0, 0
    for found in sorted(ranges, key=lambda r: (r.begin, r.end)):
        total += max(0, found.end - max(found.begin, reached))
        reached = max(reached, found.end)
    return total


def external_faults(model: Model, size_of: FileSize) -> list[str]:
    """Everything that is wrong with where the weights lie; empty where all of them can be read.

    A location outside the folder, a file that is missing or too short, a length that is not dims x
    dtype, a begin that does not fall on a whole value, ranges that cross: each by its weight.
    """
    faults = [
        f"external data `{printable(location)}` {why}"
        for location in external_files(model)
        if (why := _location_fault(location, size_of)) is not None
    ]
    for weight in model.weights():
        fault = _weight_fault(weight, size_of)
        if fault is not None:
            faults.append(f"weight `{printable(weight.name)}` {fault}")
    return faults + _crossings(_ranges(model.weights()))


def _location_fault(location: str, size_of: FileSize) -> str | None:
    unsafe = why_unsafe(location)
    if unsafe is not None:
        return f"{unsafe}, so that it may lie outside the folder"
    return "is missing" if size_of(location) is None else None


def _weight_fault(weight: Weight, size_of: FileSize) -> str | None:
    """What is wrong with one weight by itself, its file aside."""
    if weight.external is None:
        return None
    place = weight.external
    begin, length = _number(place.offset), _number(place.length or "")
    if begin is None or (place.length is not None and length is None):
        return f"has the offset `{place.offset}` and the length `{place.length}`, not byte counts"
    size = None if why_unsafe(place.location) else size_of(place.location)
    if length is None:
        length = weight.num_bytes if size is None else size - begin
    if weight.num_bytes is not None and length != weight.num_bytes:
        dims = list(weight.dims)
        return f"has {length} bytes, but {dims} of {weight.dtype} are {weight.num_bytes}"
    if size is not None and length is not None and begin + length > size:
        return f"ends at byte {begin + length} of `{place.location}`, which has {size}"
    item_bytes = (dtype_bits(weight.dtype) or 8) // 8
    if item_bytes and begin % item_bytes:
        return f"begins at byte {begin}, which is no multiple of its {item_bytes} bytes a value"
    return None


def _number(text: str) -> int | None:
    """A count of bytes, or None; at most 18 digits, as in a signed 64-bit number."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _ranges(weights: Iterable[Weight]) -> list[Range]:
    """Of weights whose place is stated in full, or can be completed."""
    found = []
    for weight in weights:
        place = weight.external
        if place is None or why_unsafe(place.location):
            continue
        begin = _number(place.offset)
        length = _number(place.length) if place.length is not None else weight.num_bytes
        if begin is not None and length:
            found.append(Range(weight.name, place.location, begin, begin + length))
    return found


def _crossings(ranges: Iterable[Range]) -> list[str]:
    """Ranges that overlap in part. One inside another is a view of the same weights, and right."""
    faults = []
    by_file: defaultdict[str, list[Range]] = defaultdict(list)
    for found in ranges:
        by_file[found.location].append(found)
    for location, inside in by_file.items():
        longest: Range | None = None
        for found in sorted(inside, key=lambda r: (r.begin, -r.end)):
            if longest is not None and longest.end > found.begin and found.end > longest.end:
                faults.append(
                    f"weights `{printable(longest.weight)}` and `{printable(found.weight)}` cross "
                    f"in `{location}`, at bytes {found.begin} to {longest.end}"
                )
            if longest is None or found.end > longest.end:
                longest = found
    return faults
