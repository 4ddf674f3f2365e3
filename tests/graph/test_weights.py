"""Joined views of the rank files: byte ranges that make the whole model's tensors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.checkpoint.safetensors_file import TensorInfo
from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.errors import VerificationError
from pipeline.families import find_family
from pipeline.graph.inventory import check_inventory
from pipeline.graph.weights import Joined, JoinedWeights
from pipeline.weights.layout import plan_conversion
from pipeline.weights.parallel import Parallelism
from tests.families.fixtures import FIXTURES, open_fixture
from tests.graph.random_checkpoints import random_checkpoint
from tests.tiny_decoder import EIGHT_HEADS, Shape, random_weights, write_checkpoint
from tests.weights.converting import convert, plan


def open_weights(folder: Path) -> JoinedWeights:
    checkpoint = open_trtllm_checkpoint(folder)
    check_inventory(checkpoint)
    return JoinedWeights(checkpoint)


def read(folder: Path, joined: Joined) -> NDArray[np.float32]:
    """The bytes that a joined tensor refers to, as a runtime reads them."""
    parts = []
    for part in joined.parts:
        if isinstance(part, Joined):
            parts.append(read(folder, part))
            continue
        data = (folder / part.file).read_bytes()[part.offset : part.offset + part.num_bytes]
        parts.append(np.frombuffer(data, dtype=np.float32).reshape(part.shape))
    return np.concatenate(parts, axis=joined.dim)


@pytest.mark.parametrize(("tp_size", "pp_size"), [(1, 1), (2, 1), (2, 3), (4, 2)])
def test_every_tensor_joins_to_the_whole(tmp_path: Path, tp_size: int, pp_size: int) -> None:
    shape = replace(EIGHT_HEADS, attn_bias=True)
    whole = random_weights(shape)
    folder = write_checkpoint(tmp_path, shape, whole, tp_size, pp_size)
    weights = open_weights(folder)
    for layer in range(shape.num_layers):
        for part in ("q", "k", "v"):
            joined = weights.heads(part, "weight", layer, 2, 16)
            assert joined.name == f"transformer.layers.{layer}.attention.{part}.weight"
            assert np.array_equal(read(folder, joined), whole[f"{layer}.{part}"])
            bias = weights.heads(part, "bias", layer, 2, 16)
            assert np.array_equal(read(folder, bias), whole[f"{layer}.{part}.bias"])
        dense = weights.split("attention.dense.weight", 1, layer)
        assert dense.shape == (40, 128)
        assert np.array_equal(read(folder, dense), whole[f"{layer}.dense"])
        norm = weights.whole("post_layernorm.weight", layer)
        assert np.array_equal(read(folder, norm), whole[f"{layer}.norm2"])
    assert np.array_equal(read(folder, weights.embedding()), whole["embedding"])
    assert weights.head().shape == (113, 40)
    assert np.array_equal(read(folder, weights.head()), whole["head"])
    left = weights.unused(lambda name: "norm" in name or "bias" in name)
    assert {name.split(".")[-2] for name in left} == {"ln_f", "fc", "gate", "proj"}


def test_a_rank_of_padding_alone_is_left_out(tmp_path: Path) -> None:
    shape = replace(
        EIGHT_HEADS, vocab_size=9
    )  # 9 rows over 8 ranks: two each, the last three empty
    whole = random_weights(shape)
    folder = write_checkpoint(tmp_path, shape, whole, tp_size=8)
    head = open_weights(folder).head()
    assert len(head.parts) == 5
    assert np.array_equal(read(folder, head), whole["head"])


def test_padding_of_tables_is_cut_off(tmp_path: Path) -> None:
    """Three ranks share 113 tokens and 32 positions by rows: one row too many of each."""
    source = open_fixture("opt")
    layout = Parallelism(3, embedding_dim=0)
    made = plan_conversion(source, find_family(source.architecture), layout, "float32")
    weights = open_weights(convert(made, FIXTURES / "opt", tmp_path / "shared"))
    config = made.config
    assert (config["vocab_size"] % 3, config["max_position_embeddings"] % 3) == (2, 2)
    width = config["hidden_size"]
    assert weights.embedding().shape == (config["vocab_size"], width)
    assert weights.positions().shape == (config["max_position_embeddings"], width)


def test_a_missing_layer_is_found(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, Shape(), random_weights(Shape()), num_hidden_layers=4)
    with pytest.raises(VerificationError, match="rank files do not hold") as caught:
        open_weights(folder)
    assert len(caught.value.facts) == 7
    assert all("transformer.layers.3." in fact for fact in caught.value.facts)


def test_an_unknown_tensor_is_a_fault(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, replace(Shape(), mlp_bias=True), random_weights(Shape()))
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(document | {"mlp_bias": False}))
    with pytest.raises(VerificationError) as caught:
        open_weights(folder)
    assert len(caught.value.facts) == 9
    assert "`transformer.layers.0.mlp.fc.bias` of `rank0.safetensors` is not known" in (
        caught.value.facts
    )


def test_another_dtype_is_a_fault(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, Shape(), random_weights(Shape()), dtype="bfloat16")
    with pytest.raises(VerificationError) as caught:
        open_weights(folder)
    assert (
        "`lm_head.weight` of `rank0.safetensors` is float32 [113, 40], expected bfloat16 [113, 40]"
    ) in caught.value.facts


@pytest.mark.parametrize("name", ["mixtral", "qwen2moe"])
def test_experts_join_over_both_kinds_of_ranks(tmp_path: Path, name: str) -> None:
    """Whole, by moe_tp and by moe_ep ranks: the same stack, and the same matrix of each expert."""
    stacks = {}
    for parts, spread in ((1, 1), (2, 1), (1, 2)):
        layout = Parallelism(parts * spread, 1, moe_tp_size=parts, moe_ep_size=spread)
        source = open_fixture(name)
        made = plan_conversion(source, find_family(source.architecture), layout, "float32")
        folder = convert(made, FIXTURES / name, tmp_path / f"{parts}x{spread}")
        weights = open_weights(folder)
        assert weights.num_expert_parts == parts
        stack = read(folder, weights.experts("mlp.proj.weight", 1, 2))
        stacks[parts, spread] = stack
        for expert in range(4):
            one = read(folder, weights.expert("mlp.proj.weight", 1, 1, expert))
            assert np.array_equal(one, stack[expert])
    first = stacks.pop((1, 1))
    assert all(np.array_equal(first, stack) for stack in stacks.values())


def test_norms_of_repeated_heads_are_taken_once(tmp_path: Path) -> None:
    """Six ranks with a query head each, two K/V heads: ranks 0 and 3 are the first of theirs."""
    config = dict(plan(FIXTURES / "cohere-qk-norm", dtype="float32").config)
    config |= {"intermediate_size": 48, "mapping": {"tp_size": 6, "world_size": 6}}
    weights = JoinedWeights(random_checkpoint(config, tmp_path / "random"))
    joined = weights.kv_split("attention.k_layernorm.weight", 0, 2)
    files = [part.file for part in joined.parts if isinstance(part, TensorInfo)]
    assert files == ["rank0.safetensors", "rank3.safetensors"]
    assert joined.shape == (2, config["head_size"])
