"""A tiny but valid source checkpoint, with much around it that must never be read."""

from __future__ import annotations

import json
import struct

REPO = "acme/tiny"


def weight_file(*names: str, num_bytes: int = 32) -> bytes:
    """A valid safetensors file with one bfloat16 vector per name."""
    entries, begin = {}, 0
    for name in names:
        offsets = [begin, begin + num_bytes]
        entries[name] = {"dtype": "BF16", "shape": [num_bytes // 2], "data_offsets": offsets}
        begin += num_bytes
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    data = bytes(range(251)) * (begin // 251 + 1)
    return struct.pack("<Q", len(header)) + header + data[:begin]


def checkpoint_files() -> dict[str, bytes]:
    """A source checkpoint with two weight files, and much that must not be read."""
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    index = {"metadata": {}, "weight_map": {"a": first, "b": first, "c": second}}
    return {
        "config.json": json.dumps({"architectures": ["LlamaForCausalLM"]}).encode(),
        "generation_config.json": b"{}",
        "tokenizer.json": b'{"version": "1.0"}',
        "tokenizer_config.json": b"{}",
        "additional_chat_templates/tools.jinja": b"{{ tools }}",
        "LICENSE": b"free",
        "model.safetensors.index.json": json.dumps(index).encode(),
        first: weight_file("a", "b", num_bytes=200_000),
        second: weight_file("c"),
        "README.md": b"# tiny",
        "modeling_tiny.py": b"raise SystemExit",
        "pytorch_model.bin": b"\x80\x04pickle",
        "original/consolidated.00.pth": b"\x80\x04pickle",
        ".gitattributes": b"",
    }


NEEDED = sorted(
    name
    for name in checkpoint_files()
    if not name.endswith((".py", ".bin", ".pth", ".md")) and name != ".gitattributes"
)
