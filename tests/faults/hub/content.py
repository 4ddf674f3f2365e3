"""The repo of the campaign: a small model that can be planned, and what must never be fetched."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from tests.tiny import write_checkpoint
from tests.tiny_source import checkpoint_files
from tests.tiny_tokenizer import byte_level

WEIGHTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
LARGE = (*WEIGHTS, "tokenizer.json")
"""Files in LFS, which the CDN serves."""

SMALL = ("config.json", "model.safetensors.index.json", "LICENSE", "generation_config.json")
RECIPE = """name: tiny
source: {repo: acme/tiny}
engine: {backend: onnxruntime, max_batch_size: 1, max_input_len: 16, max_seq_len: 32}
smoke: {max_new_tokens: 4, prompts: [{text: a}]}
"""


@functools.cache
def _model() -> dict[str, bytes]:
    """Config, index, two weight files of some 80 kB, and a tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        written = write_checkpoint(Path(folder, "model"))
        byte_level().save(str(written / "tokenizer.json"))
        return {path.name: path.read_bytes() for path in written.iterdir()}


def repo_files() -> dict[str, bytes]:
    """All files of the repo by name."""
    return {**checkpoint_files(), **_model()}


@functools.cache
def needed_names() -> list[str]:
    """The files that a download brings, sorted."""
    never = (".py", ".bin", ".pth", ".md", ".gitattributes")
    return sorted(name for name in repo_files() if not name.endswith(never))
