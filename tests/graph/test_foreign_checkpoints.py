"""Checkpoints that others wrote: what is the same in other words is taken, the rest refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.errors import RecipeError, VerificationError
from pipeline.families import expected_inventory, find_family
from pipeline.graph.architectures.shared import ANY_LENGTH
from pipeline.graph.config import graph_problems, read_decoder, readers
from pipeline.graph.decoder import GraphOptions, decoder_model
from pipeline.graph.inventory import check_inventory
from tests.families.fixtures import FIXTURES, NAMES
from tests.families.test_upstream import RECORDED
from tests.graph.random_checkpoints import random_checkpoint
from tests.graph.test_decoder import prefill, write
from tests.tiny_decoder import Shape, Weights, random_weights
from tests.weights.converting import plan

# Their converters leave out how wide the MLP is; TensorRT-LLM then takes four times the model.
_OTHER_WIDTH = ("opt", "opt-350m")


def ours_in_their_words(name: str) -> dict[str, Any]:
    """Our config with their values, and without our own key."""
    theirs = RECORDED[name]["config"]
    made = {**plan(FIXTURES / name, dtype=theirs["dtype"]).config, **theirs}
    made.pop("attention_windows", None)
    return made


@pytest.mark.parametrize("name", RECORDED)
def test_configs_of_the_reference_converter(name: str) -> None:
    """Keys that it leaves out mean what we write for them."""
    theirs, ours = RECORDED[name]["config"], ours_in_their_words(name)
    if name in _OTHER_WIDTH:
        ours["intermediate_size"] = 4 * ours["hidden_size"]
    found, expected = read_decoder(theirs), read_decoder(ours)
    if found.longest_tokens == ANY_LENGTH:
        limits = {"longest_tokens": ANY_LENGTH, "longest_because": found.longest_because}
        expected = replace(expected, **limits)
    assert found == expected
    assert expected_inventory(theirs, 0) == expected_inventory(ours, 0)


def test_experts_of_whom_little_is_said() -> None:
    """What is left out of `moe` has the default of MoeConfig."""
    whole = dict(plan(FIXTURES / "qwen3moe").config)
    kept = ("num_experts", "top_k", "normalization_mode")
    short = whole | {"moe": {key: whole["moe"][key] for key in kept}}
    assert read_decoder(short) == read_decoder(whole)
    assert expected_inventory(short, 0) == expected_inventory(whole, 0)
    dense = dict(plan(FIXTURES / "llama").config)
    assert expected_inventory(dense | {"moe": {"top_k": 0}}, 0) == expected_inventory(dense, 0)


def test_lists_that_it_works_out_must_agree() -> None:
    theirs = RECORDED["deci"]["config"]
    for key in ("layer_types", "num_kv_heads_per_layer"):
        with pytest.raises(RecipeError) as caught:
            read_decoder({**theirs, key: theirs[key][::-1]})
        (fact,) = caught.value.facts
        assert fact.startswith(f"`{key}` is ")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"moe_tp_size": -1, "moe_ep_size": -1, "attn_tp_size": -1, "moe_cluster_size": 1}, None),
        ({"moe_tp_size": None, "moe_ep_size": 0, "rank": 1, "auto_parallel": False}, None),
        ({"attn_tp_size": 2, "attn_cp_size": 1, "cp_config": {}, "pp_partition": None}, None),
        ({"attn_tp_size": 1}, "`mapping.attn_tp_size` is `1`; supported: `2`, `-1`"),
        ({"enable_attention_dp": True}, "`mapping.enable_attention_dp` is `True`"),
        ({"pp_partition": [2, 1]}, "`mapping.pp_partition` is `[2, 1]`; supported: none"),
        ({"moe_cluster_size": 2}, "`mapping.moe_cluster_size` is `2`"),
        ({"moe_tp_size": 2, "moe_ep_size": 2}, "the sizes of `mapping` do not fit"),
        ({"moe_ep_size": 3}, "the sizes of `mapping` do not fit"),
        ({"moe_ep_size": 1.5}, "`mapping.moe_ep_size` is `1.5`; expected a whole number"),
        ({"dp_size": 1}, "`mapping.dp_size` is not known (`tp_size` is)"),
    ],
)
def test_mappings(more: dict[str, Any], words: str | None) -> None:
    config = Shape().config() | {"mapping": {"tp_size": 2, "world_size": 2} | more}
    if words is None:
        assert read_decoder(config) == read_decoder(Shape().config(tp_size=2))
        assert expected_inventory(config, 1)
        return
    with pytest.raises(RecipeError) as caught:
        read_decoder(config)
    (fact,) = caught.value.facts
    assert fact.startswith(words)


def test_heads_that_ranks_cannot_share() -> None:
    """Twelve heads of queries and six of keys: four ranks would have to hold parts of heads."""
    config = Shape().config() | {"num_attention_heads": 12, "num_key_value_heads": 6}
    with pytest.raises(RecipeError) as caught:
        read_decoder({**config, "mapping": {"tp_size": 4, "world_size": 4}})
    assert caught.value.facts == ("6 K/V heads cannot be shared by 4 ranks",)


def _rewrite(folder: Path, changed: dict[str, Any], rank: int = 0) -> None:
    """A rank file with other tensors, in the order given."""
    save_file(changed, folder / f"rank{rank}.safetensors")


def _written(folder: Path, **shape: Any) -> tuple[Shape, Weights]:
    made = replace(Shape(), attn_bias=True, **shape)
    weights = random_weights(made)
    write(folder, made, weights, tp_size=2)
    return made, weights


def test_tensors_in_another_order(tmp_path: Path) -> None:
    shape, weights = _written(tmp_path / "usual")
    before = prefill(tmp_path / "usual" / "decoder.onnx", shape)
    write(tmp_path / "other", shape, weights, tp_size=2)
    for rank in (0, 1):
        held = load_file(tmp_path / "other" / f"rank{rank}.safetensors")
        padded = {name: held[name] for name in sorted(held, key=lambda name: name[::-1])}
        _rewrite(tmp_path / "other", padded, rank)
    checkpoint = open_trtllm_checkpoint(tmp_path / "other")
    graph, _ = decoder_model(checkpoint, GraphOptions(24, "float32", logits="all"))
    (tmp_path / "other" / "decoder.onnx").write_bytes(graph.SerializeToString())
    assert np.array_equal(prefill(tmp_path / "other" / "decoder.onnx", shape), before)


def _with_wide(folder: Path, names: tuple[str, ...], rank: int) -> None:
    held = load_file(folder / f"rank{rank}.safetensors")
    wide = [name for name in held if name.endswith(names)]
    assert wide
    _rewrite(folder, held | {name: held[name].astype(np.float32) for name in wide}, rank)


def test_norms_and_biases_in_float32(tmp_path: Path) -> None:
    shape, _ = _written(tmp_path, dtype="float16")
    before = prefill(tmp_path / "decoder.onnx", shape)
    for rank in (0, 1):
        _with_wide(tmp_path, ("layernorm.weight", "ln_f.weight", ".bias"), rank)
    checkpoint = open_trtllm_checkpoint(tmp_path)
    graph, _ = decoder_model(checkpoint, GraphOptions(24, "float32", logits="all"))
    (tmp_path / "decoder.onnx").write_bytes(graph.SerializeToString())
    assert np.array_equal(prefill(tmp_path / "decoder.onnx", shape), before)


def faults(folder: Path) -> tuple[str, ...]:
    with pytest.raises(VerificationError) as caught:
        check_inventory(open_trtllm_checkpoint(folder))
    return caught.value.facts


def test_float32_in_one_rank_alone_is_a_fault(tmp_path: Path) -> None:
    _written(tmp_path, dtype="float16")
    _with_wide(tmp_path, ("ln_f.weight",), 1)
    assert faults(tmp_path) == ("`transformer.ln_f.weight` is not of one dtype in all rank files",)


def test_matrices_of_another_dtype_are_a_fault(tmp_path: Path) -> None:
    _written(tmp_path, dtype="float16")
    _with_wide(tmp_path, ("0.mlp.fc.weight",), 1)
    (fault,) = faults(tmp_path)
    assert fault.endswith("`rank1.safetensors` is float32 [36, 40], expected float16 [36, 40]")


def test_scales_of_a_quantization_are_not_known(tmp_path: Path) -> None:
    _written(tmp_path)
    held = load_file(tmp_path / "rank1.safetensors")
    name = "transformer.layers.0.attention.kv_cache_scaling_factor"
    _rewrite(tmp_path, held | {name: np.ones(1, np.float32)}, 1)
    assert faults(tmp_path) == (f"`{name}` of `rank1.safetensors` is not known",)


def test_sizes_that_ranks_cannot_share(tmp_path: Path) -> None:
    """Said once, whatever the ranks hold."""
    _written(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 71}))
    (fault,) = faults(tmp_path)
    assert fault.startswith("the sizes of `config.json` do not fit its `mapping`: 71/2 ")


def test_a_key_that_shapes_need(tmp_path: Path) -> None:
    config = dict(plan(FIXTURES / "deepseek-v2", dtype="float32").config)
    checkpoint = random_checkpoint(config, tmp_path / "whole")
    del config["q_lora_rank"]
    with pytest.raises(VerificationError) as caught:
        check_inventory(replace(checkpoint, config=config))
    assert caught.value.facts == ("`config.json` has no `q_lora_rank`",)


JUNK: tuple[Any, ...] = (None, "x", -1, [], {"a": 1}, 1.5, True)


def one_of_each_architecture() -> list[str]:
    found = {plan(FIXTURES / name).config["architecture"]: name for name in NAMES}
    assert found.keys() <= readers().keys()
    return list(found.values())


@pytest.mark.parametrize("name", one_of_each_architecture())
def test_junk_is_refused_or_means_nothing(name: str) -> None:
    """No value of any key makes more than an error of ours."""
    config = dict(plan(FIXTURES / name, dtype="float32").config)
    for key, value in config.items():
        inner = (
            [{**value, name: junk} for name in value for junk in JUNK]
            if value and isinstance(value, dict)
            else []
        )
        for junk in (*JUNK, *inner):
            made = {**config, key: junk}
            if not graph_problems(made, 16):
                assert read_decoder(made).layers


def test_every_architecture_that_is_read_has_an_inventory() -> None:
    for architecture in readers():
        assert find_family(architecture).model_class.parameters
