"""What the classes allow and no stored model has: every tensor is used, and the dims fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from pipeline.engines.onnxruntime.cpu_session import Limits, open_session, session_options
from pipeline.errors import VerificationError
from pipeline.graph import decoder
from pipeline.graph.decoder import GraphOptions, decoder_model
from pipeline.graph.parts import Dialect
from tests.families.fixtures import FIXTURES
from tests.graph.random_checkpoints import random_checkpoint
from tests.weights.converting import plan

UNUSUAL: tuple[tuple[str, dict[str, Any]], ...] = (
    ("chatglm3", {"rmsnorm": False}),
    ("deepseek-v2", {"v_head_dim": 6}),
    ("phi3small", {"blocksparse_homo_head_pattern": True}),
    ("llama", {"attn_bias": True, "mlp_bias": True}),
    ("cohere", {"attn_bias": True}),
    ("falcon-7b", {"bias": True}),
    ("gemma2", {"attn_bias": True, "mlp_bias": True}),
    # Six ranks hold a query head each, and three of them the same K/V head.
    ("cohere-qk-norm", {"intermediate_size": 48, "mapping": {"tp_size": 6, "world_size": 6}}),
)


@pytest.mark.parametrize(("name", "more"), UNUSUAL)
def test_both_dialects_say_the_same(name: str, more: dict[str, Any], tmp_path: Path) -> None:
    """The weights are random, so that one that a dialect forgets or exchanges would be seen."""
    config = dict(plan(FIXTURES / name, dtype="float32").config)
    assert more.keys() <= config.keys()
    checkpoint = random_checkpoint({**config, **more}, tmp_path / "random")

    def logits(dialect: Dialect) -> NDArray[np.float32]:
        options = GraphOptions(16, "float32", fixed_cache=False, dialect=dialect)
        graph, _ = decoder_model(checkpoint, options)
        loaded = session_options()
        loaded.intra_op_num_threads = 1
        session = open_session(graph.SerializeToString(), checkpoint.path, Limits(2, 16), loaded)
        return session.start([[3, 1, 4, 1, 5], [9, 2]])

    found, other = logits("onnxruntime"), logits("tensorrt")
    assert np.abs(found).max() > 1e-3
    assert np.abs(found - other).max() <= 1e-4 * np.abs(found).max()


@pytest.mark.parametrize("name", ["gemma2", "cohere-qk-norm", "deepseek-v2", "opt"])
def test_operators_of_the_usual_words(name: str, tmp_path: Path) -> None:
    """One `Attention` for each layer, soft-capped or not; norms count in float32 everywhere."""
    config = dict(plan(FIXTURES / name, dtype="float32").config)
    checkpoint = random_checkpoint(config, tmp_path / "random")
    for compute in ("float32", "float16", "bfloat16"):
        graph, facts = decoder_model(checkpoint, GraphOptions(16, compute))
        assert facts.op_counts["Attention"] == config["num_hidden_layers"]
        assert "Softmax" not in facts.op_counts or "moe" in config
        norms = [node for node in graph.graph.node if node.op_type.endswith("Normalization")]
        assert norms
        for node in norms:
            found = {each.name: each.i for each in node.attribute}
            assert found["stash_type"] == onnx.TensorProto.FLOAT


def test_a_tensor_that_no_part_reads_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the products for TensorRT-LLM's own kernel would be, if they were not known."""
    config = dict(plan(FIXTURES / "deepseek-v2", dtype="float32").config)
    checkpoint = random_checkpoint(config, tmp_path / "random")
    monkeypatch.setattr(decoder, "_REPEATED", ("attention.fused_q_proj",))
    with pytest.raises(VerificationError, match="leaves out tensors") as caught:
        decoder_model(checkpoint, GraphOptions(16, "float32"))
    numbers = range(config["num_hidden_layers"])
    expected = [f"transformer.layers.{i}.attention.k_b_proj_trans" for i in numbers]
    assert sorted(caught.value.facts) == expected
