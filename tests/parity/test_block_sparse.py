"""The sparse attention of Phi-3-small, with blocks so small that short prompts show them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from tests.families.executing import session
from tests.families.fixtures import FIXTURES
from tests.families.references import relative_error
from tests.parity.as_published import read_json, write_json
from tests.parity.equivalents import EQUIVALENTS
from tests.parity.references import LONGEST, PROMPTS
from tests.weights.converting import convert, plan

pytestmark = pytest.mark.torch

CASES = (
    {"blocksparse_vert_stride": 3},
    {"blocksparse_vert_stride": 8},  # twice the number of heads: those see every second block
    {"blocksparse_vert_stride": 3, "blocksparse_homo_head_pattern": True},
    {"blocksparse_vert_stride": 5, "dense_attention_every_n_layers": 3},
)


@pytest.mark.parametrize("case", CASES)
def test_sparse_layers(case: dict[str, Any], tmp_path: Path) -> None:
    import torch

    source = shutil.copytree(FIXTURES / "phi3small", tmp_path / "source")
    small = {"blocksparse_block_size": 4, "blocksparse_num_local_blocks": 2}
    config = read_json(source / "config.json")
    assert small.keys() | case.keys() <= config.keys()
    write_json(source / "config.json", config | small | case)
    original = EQUIVALENTS["phi3small"](source).logits
    dense = EQUIVALENTS["phi3small"](FIXTURES / "phi3small").logits
    with torch.no_grad():
        wanted = np.stack([original(prompt)[-1].numpy() for prompt in PROMPTS])
        assert relative_error(dense(PROMPTS[-1])[-1:].numpy(), wanted[-1:]) > 1e-2
    made = plan(source, dtype="float32")
    checkpoint = open_trtllm_checkpoint(convert(made, source, tmp_path / "converted"))
    assert relative_error(session(checkpoint, LONGEST).start(PROMPTS), wanted) <= 1e-4
