"""Corrupted weight files, by class: each is made from a good one by a seeded random edit."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

Header = dict[str, Any]
Base = tuple[Header, bytes]
"""A header document and the bytes of the tensors."""


def file_of(text: bytes, data: bytes, length: int | None = None) -> bytes:
    """A weight file with this header text."""
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def dumped(header: Header, data: bytes) -> bytes:
    """A weight file with this header document."""
    return file_of(json.dumps(header).encode(), data)


def _copy(base: Base, rng: random.Random) -> tuple[Header, bytes, str]:
    """A copy to change, and one of its tensors."""
    header = json.loads(json.dumps(base[0]))
    return header, base[1], rng.choice([name for name in header if name != "__metadata__"])


def _put(name: str, key: str, value: Any, header: Header, data: bytes) -> bytes:
    header[name][key] = value
    return dumped(header, data)


def duplicates(base: Base, rng: random.Random) -> bytes:
    """A key twice: a tensor, a field of one, or metadata, with the same value or another."""
    header, data, name = _copy(base, rng)
    text = json.dumps(header)
    entry = json.dumps(header[name])
    other = json.dumps(rng.choice([entry, {}, None, header[rng.choice(list(header))]]))
    match rng.randrange(4):
        case 0:
            text = text[:-1] + f", {json.dumps(name)}: {rng.choice([entry, other])}}}"
        case 1:
            field, value = rng.choice(list(header[name].items()))
            repeated = entry[:-1] + f", {json.dumps(field)}: {json.dumps(value)}}}"
            text = text.replace(entry, repeated, 1)
        case 2:
            text = text[:-1] + ', "__metadata__": {}, "__metadata__": {}}'
        case 3:
            text = text[:-1].replace('"__metadata__"', '"_"', 1)
            text += ', "__metadata__": {"a": "1", "a": "2"}}'
    return file_of(text.encode(), data)


NAMES: list[Callable[[random.Random, str], str]] = [
    lambda rng, name: "",
    lambda rng, name: name + chr(rng.choice([*range(32), 127, 0x9B])),
    lambda rng, name: "../" * rng.randint(1, 5) + name,
    lambda rng, name: f"/{name}",
    lambda rng, name: name + ".." + name,
    lambda rng, name: name + "n" * rng.choice([1025, 5000, 100_000]),
    lambda rng, name: name + chr(rng.choice([0x202E, 0x200B, 0x2028, 0xFEFF, 0xE000])),
    lambda rng, name: name + chr(rng.randrange(0xD800, 0xE000)),
    lambda rng, name: f"\x1b[2J{name}\x07",
]


def hostile_names(base: Base, rng: random.Random) -> bytes:
    """A tensor with a name that could break a path, a terminal or a log."""
    header, data, name = _copy(base, rng)
    header[rng.choice(NAMES)(rng, name)] = header.pop(name)
    return dumped(header, data)


def offsets(base: Base, rng: random.Random) -> bytes:
    """Ranges that are moved, reversed, negative, of another type, or huge."""
    header, data, name = _copy(base, rng)
    begin, end = header[name]["data_offsets"]
    near = rng.choice([-64, -8, -2, -1, 1, 2, 8, 64])
    strange: list[Any] = [[begin + near, end + near], [begin + near, end], [begin, end + near]]
    strange += [[end, begin], [-begin - 1, end], [float(begin), end], [begin, end + 0.5]]
    strange += [[bool(begin), True], [str(begin), str(end)], [2**63, 2**63 + end - begin]]
    strange += [[2**64 - 1, end], [begin, 10 ** rng.randint(18, 4000)], [begin, end, end]]
    strange += [[begin], [], None, {"begin": begin}, [None, end]]
    return _put(name, "data_offsets", rng.choice(strange), header, data)


def minus_zero(base: Base, rng: random.Random) -> bytes:
    """`-0` is a number of JSON, but not a count."""
    header, data, _ = _copy(base, rng)
    text = json.dumps(header)
    places = [place for place in range(len(text) - 1) if text[place : place + 2] in ("[0", " 0")]
    place = rng.choice(places) + 1
    return file_of((text[:place] + "-" + text[place:]).encode(), data)


def overlaps(base: Base, rng: random.Random) -> bytes:
    """Two tensors on the same bytes, or one that begins inside another."""
    header, data, name = _copy(base, rng)
    other = rng.choice([n for n in header if n not in ("__metadata__", name)])
    if rng.random() < 0.5:
        header[name] = header[other]
    else:
        begin, end = header[other]["data_offsets"]
        size = header[name]["data_offsets"][1] - header[name]["data_offsets"][0]
        start = rng.randint(begin, end)
        header[name]["data_offsets"] = [start, start + size]
    return dumped(header, data)


def holes(base: Base, rng: random.Random) -> bytes:
    """A tensor left out, or all behind one moved; the data may grow with them."""
    header, data, name = _copy(base, rng)
    if rng.random() < 0.5:
        del header[name]
        return dumped(header, data)
    gap, first = rng.choice([1, 2, 8, 4096]), header[name]["data_offsets"][0]
    for other, entry in header.items():
        if other != "__metadata__" and entry["data_offsets"][0] >= first:
            entry["data_offsets"] = [place + gap for place in entry["data_offsets"]]
    return dumped(header, data + bytes(gap) if rng.random() < 0.7 else data)


def lengths(base: Base, rng: random.Random) -> bytes:
    """A header that claims another length, up to all that 64 bits hold."""
    text = json.dumps(base[0]).encode()
    near = rng.randint(-9, 9)
    claimed = [len(text) + near, 0, 1, 2, len(text) + len(base[1]) + near, 10**8 - 1, 10**8 + 1]
    claimed += [2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 8]
    return file_of(text, base[1], max(0, rng.choice(claimed)))


def dtypes(base: Base, rng: random.Random) -> bytes:
    """Dtypes that do not exist, of another width, of another spelling, or no text."""
    header, data, name = _copy(base, rng)
    strange: list[Any] = ["F128", "bf16", "BFLOAT16", "float32", "", " F32", "F32\0", "\x1b[2J"]
    strange += [None, 16, True, ["F32"], {}, "F" * 10_000, "F4", "F6_E2M3", "F8_E4M3FNUZ"]
    strange += ["BOOL", "U8", "F8_E4M3", "BF16", "F16", "I32", "F32", "I64", "F64", "C64"]
    return _put(name, "dtype", rng.choice(strange), header, data)


def shapes(base: Base, rng: random.Random) -> bytes:
    """Shapes whose product is another, overflows, or that are no lists of counts."""
    header, data, name = _copy(base, rng)
    shape = header[name]["shape"]
    near = [size + rng.choice([-1, 0, 1]) for size in shape]
    strange: list[Any] = [
        near,
        [*shape, 1],
        [1, *shape],
        [*shape, 0],
        shape[::-1],
        [-size for size in shape],
        [float(size) for size in shape],
        [str(size) for size in shape],
        [*shape, True],
        [*shape, None],
        [2**32, 2**32],
        [2**63, 2],
        [2**64 + 1],
        [2**62] * 64,
        [1] * rng.choice([63, 64, 65, 1000]) + shape,
        rng.choice([10**30, None, "2,3", {"0": 2}, [[2, 3]]]),
    ]
    return _put(name, "shape", rng.choice(strange), header, data)


def cut_or_padded(base: Base, rng: random.Random) -> bytes:
    """A file that ends too early, anywhere, or too late."""
    data = dumped(*base)
    if rng.random() < 0.3:
        return data + rng.randbytes(rng.randint(1, 4096))
    first = rng.choice([0, 8, len(data) - len(base[1])])
    return data[: rng.randint(first, len(data) - 1)]


def bad_text(base: Base, rng: random.Random) -> bytes:
    """Bytes that are not UTF-8, in a name or anywhere; other encodings; byte order marks."""
    text = json.dumps(base[0]).encode()
    bad = rng.choice([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80", b"\xc0\x80", b"\x80"])
    place = rng.randrange(len(text))
    made = [text[:place] + bad + text[place:], text.replace(b'"', b'"' + bad, 1)]
    made += [b"\xef\xbb\xbf" + text, text.decode().encode("utf-16"), text[:-1] + bad + b"}"]
    return file_of(rng.choice(made), base[1])


def nesting(base: Base, rng: random.Random) -> bytes:
    """Thousands of levels, in place of an entry or in metadata, closed or not."""
    depth = rng.choice([100, 127, 128, 129, 1000, 20_000])
    opened, closed = rng.choice([("[", "]"), ('{"a":', "}")])
    deep = opened * depth + ("1" + closed * depth if rng.random() < 0.7 else "")
    key = rng.choice(["__metadata__", "deep"])
    header = {name: entry for name, entry in base[0].items() if name != key}
    text = json.dumps(header)[:-1] + f', "{key}": {deep}}}'
    return file_of(text.encode(), base[1])


def numbers(base: Base, rng: random.Random) -> bytes:
    """NaN, infinities, exponents and leading zeros in place of a number."""
    text = json.dumps(base[0])
    places = [i for i, c in enumerate(text) if c.isdigit() and text[i - 1] in "[ "]
    place = rng.choice(places)
    strange = ["NaN", "Infinity", "-Infinity", "1e999", "1e2", "0.0", "00", "01", "+1", "1.", ".5"]
    strange += ["0x10", "1_0", "9" * 5000, "1e-400", "null", "٣", "-1", "1E1"]
    end = place + 1 if rng.random() < 0.5 else place
    return file_of((text[:place] + rng.choice(strange) + text[end:]).encode(), base[1])


def metadata(base: Base, rng: random.Random) -> bytes:
    """`__metadata__` that is not an object of texts, or hides something."""
    header, data, name = _copy(base, rng)
    strange: list[Any] = [None, [], "pt", 1, True, {"format": None}, {"format": 1}]
    strange += [{"format": ["pt"]}, {"format": {"a": "b"}}, {name: header[name]}]
    strange += [{"": ""}, {"a": "\0\x1b[2J"}, {"a": "x" * 100_000}, {"a": "\ud800"}, {"\udfff": ""}]
    strange += [{str(n): "" for n in range(3000)}, header[name], {}]
    header["__metadata__"] = rng.choice(strange)
    return dumped(header, data)


def entries(base: Base, rng: random.Random) -> bytes:
    """Entries that are no objects, lack a field, or have one too many."""
    header, data, name = _copy(base, rng)
    entry = header[name]
    fields = list(entry)
    lacking = {key: entry[key] for key in rng.sample(fields, rng.randint(0, 2))}
    strange = [None, [], list(entry.values()), "F32", 1, lacking, {**entry, "stride": [1]}]
    strange += [{**entry, "": 0}, {**entry, "Shape": entry["shape"]}, [entry]]
    header[name] = rng.choice(strange)
    return dumped(header, data)


def flips(base: Base, rng: random.Random) -> bytes:
    """Bits and bytes changed, removed, added or repeated anywhere in length and header."""
    text = json.dumps(base[0]).encode()
    made = bytearray(file_of(text, base[1]))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        place = rng.randrange(8 + len(text))
        match rng.randrange(6):
            case 0:
                made[place] = rng.randrange(256)
            case 1 | 2:
                made[place] ^= 1 << rng.randrange(8)
            case 3:
                made[place : place + 1] = rng.choice(b'0123456789-+.eE"{}[],: ').to_bytes()
            case 4:
                swapped = rng.randrange(8, 8 + len(text))
                made[place], made[swapped] = made[swapped], made[place]
            case 5:
                # A byte more and a byte less: the length may still fit.
                del made[place]
                made.insert(rng.randrange(8, 8 + len(text)), rng.choice(b"0123456789 ,"))
    return bytes(made)


def reordered(base: Base, rng: random.Random) -> bytes:
    """Nothing wrong: entries and fields in another order, spaces, escapes."""
    header, data, _ = _copy(base, rng)
    items = [(key, rng.sample(list(value.items()), len(value))) for key, value in header.items()]
    rng.shuffle(items)
    text = json.dumps(
        {key: dict(value) for key, value in items},
        indent=rng.choice([None, 1]),
        separators=(" ,", ":\t"),
    )
    if rng.random() < 0.5:
        text = text.replace("weight", "\\u0077eight")
    return file_of((text + " " * rng.randrange(9)).encode(), data)


CLASSES: dict[str, tuple[Callable[[Base, random.Random], bytes], int]] = {
    "duplicate keys": (duplicates, 250),
    "hostile names": (hostile_names, 350),
    "offsets": (offsets, 400),
    "minus zero": (minus_zero, 100),
    "overlaps": (overlaps, 250),
    "holes": (holes, 250),
    "giant lengths": (lengths, 300),
    "dtypes": (dtypes, 350),
    "shapes": (shapes, 400),
    "cut or padded": (cut_or_padded, 350),
    "bad UTF-8": (bad_text, 250),
    "deep nesting": (nesting, 150),
    "odd numbers": (numbers, 250),
    "metadata": (metadata, 250),
    "entries": (entries, 200),
    "byte flips": (flips, 800),
    "reordered": (reordered, 100),
}
"""Class -> how a mutant is made, and how many there are: 5,000 in all."""
