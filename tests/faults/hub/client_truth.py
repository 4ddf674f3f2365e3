"""What a plan takes from a checkpoint, as a digest: of one that was read, or that is known."""

from __future__ import annotations

import hashlib
import json

from pipeline.checkpoint.huggingface import INDEX_NAME, SourceCheckpoint, assemble
from pipeline.checkpoint.safetensors_file import header_bytes, parse_header


def planned(checkpoint: SourceCheckpoint) -> str:
    """A digest of all that a plan takes from a checkpoint."""
    tensors = sorted(
        (t.name, t.dtype, t.shape, t.file, t.offset, t.num_bytes)
        for t in checkpoint.tensors.values()
    )
    text = json.dumps([checkpoint.config, tensors, checkpoint.weight_files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def truth_of(files: dict[str, bytes]) -> str:
    """The same digest, of files whose content is known."""
    headers = {}
    for name, content in files.items():
        if name.endswith(".safetensors"):
            head = content[: header_bytes(content[:8], name, len(content))]
            headers[name] = parse_header(head, name, len(content))
    return planned(assemble(files["config.json"], files[INDEX_NAME], headers))
