"""Conversion plans: pure, complete, and refused with every fault before any byte is read."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.checkpoint.huggingface import SourceCheckpoint, open_source_checkpoint
from pipeline.checkpoint.safetensors_file import TensorInfo, parse_header
from pipeline.errors import RecipeError, UsageError, VerificationError
from pipeline.families import find_family
from pipeline.weights.explanation import explanation
from pipeline.weights.layout import plan_conversion, resolve_dtype
from pipeline.weights.ledger import count_tensors, ledgers
from pipeline.weights.parallel import Parallelism
from tests import tiny
from tests.weights.converting import plan

TIED = {**tiny.CONFIG, "tie_word_embeddings": True}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_checkpoint(tmp_path_factory.mktemp("source") / "c")


def write(folder: Path, **changes: np.ndarray[Any, Any] | None) -> Path:
    """A source with tensors changed; None removes one."""
    arrays = tiny.tensors()
    for name, array in changes.items():
        if array is None:
            del arrays[name]
        else:
            arrays[name] = array
    return tiny.write_checkpoint(folder, arrays=arrays)


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, tiny.NUMPY_DTYPES["bfloat16"])


def test_plans_of_equal_input_are_equal(source: Path) -> None:
    assert plan(source, 2, 2).ranks == plan(source, 2, 2).ranks


def test_tensors_come_in_the_order_of_the_model(source: Path) -> None:
    first, second = plan(source, 1, 2).ranks
    names = [tensor.name for tensor in first.tensors]
    assert names[0] == "transformer.vocab_embedding.weight"
    layers = [int(name.split(".")[2]) for name in names[1:]]
    assert layers == sorted(layers)
    assert set(layers) == {0, 1}  # 3 layers over 2: the first rank has one more
    assert [tensor.name for tensor in second.tensors][-2:] == [
        "transformer.ln_f.weight",
        "lm_head.weight",
    ]
    assert {name.split(".")[2] for name in [t.name for t in second.tensors][:-2]} == {"0"}


def test_headers_and_sizes_are_known_before_anything_is_written(source: Path) -> None:
    made = plan(source, 2, 1, "float32")
    for rank in made.ranks:
        infos = parse_header(rank.header, rank.file, rank.num_bytes)
        assert [info.offset for info in infos.values()] == rank.offsets()
        assert {info.dtype for info in infos.values()} == {"float32"}
    assert made.target_bytes == sum(rank.num_bytes for rank in made.ranks)
    assert made.source_bytes == sum(array.nbytes for array in tiny.tensors().values())


def test_all_faults_of_the_tensors_are_told_together(tmp_path: Path) -> None:
    queries = "model.layers.0.self_attn.q_proj.weight"
    folder = write(
        tmp_path / "source",
        **{
            "model.layers.1.mlp.up_proj.weight": None,
            "model.norm.weight": None,
            queries: ones(48, 96),
            "model.embed_tokens.weight": ones(120, 48),
            "model.layers.3.mlp.up_proj.weight": ones(72, 48),
            "model.layers.0.self_attn.q_proj.bias": ones(96),
        },
    )
    with pytest.raises(VerificationError, match=r"do not fit its .*: 6 faults") as caught:
        plan(folder)
    assert set(caught.value.facts) == {
        "`model.layers.1.mlp.up_proj.weight` is missing",
        "`model.norm.weight` is missing",
        f"`{queries}` is [48, 96], expected [96, 48] (num_attention_heads*head_size, hidden_size)",
        "`model.embed_tokens.weight` is [120, 48], expected [113, 48] (vocab_size, hidden_size)",
        "`model.layers.3.mlp.up_proj.weight` is not a tensor of this family",
        "`model.layers.0.self_attn.q_proj.bias` is not a tensor of this family",
    }


def test_a_config_of_fewer_layers_does_not_drop_the_rest(source: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(source, tmp_path / "source"))
    config = (
        (folder / "config.json")
        .read_text()
        .replace('"num_hidden_layers": 3', '"num_hidden_layers": 2')
    )
    (folder / "config.json").write_text(config)
    with pytest.raises(VerificationError) as caught:
        plan(folder)
    assert len(caught.value.facts) == 9
    assert all("model.layers.2." in fact for fact in caught.value.facts)


def test_an_untied_model_without_a_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationError) as caught:
        plan(write(tmp_path / "source", **{"lm_head.weight": None}))
    assert caught.value.facts == ("`lm_head.weight` is missing",)


def test_a_tied_head_of_another_shape_is_refused(tmp_path: Path) -> None:
    arrays = {**tiny.tensors(TIED), "lm_head.weight": ones(113, 47)}
    folder = tiny.write_checkpoint(tmp_path / "source", TIED, arrays)
    with pytest.raises(VerificationError) as caught:
        plan(folder)
    assert "`lm_head.weight` is not of the dtype and shape of" in caught.value.facts[0]


def test_buffers_of_old_checkpoints_are_dropped_by_name(tmp_path: Path) -> None:
    buffer = "model.layers.{}.self_attn.rotary_emb.inv_freq"
    folder = write(tmp_path / "source", **{buffer.format(n): ones(8) for n in range(3)})
    made = plan(folder)
    assert count_tensors(made) == {"used": 30, "cast": 0, "dropped": 3}
    entry = ledgers(made)["tensors"][buffer.format(1)]
    assert entry == {"dropped": "a buffer of old checkpoints, worked out from the rotary base"}
    odd = write(tmp_path / "odd", **{"model.layers.0x.self_attn.rotary_emb.inv_freq": ones(8)})
    with pytest.raises(VerificationError, match=r"`config\.json`: 1 fault$"):
        plan(odd)


@pytest.mark.parametrize("dtype", ["int8", "float8_e4m3fn"])
def test_quantized_tensors_are_refused_by_dtype(dtype: str, source: Path) -> None:
    opened = open_source_checkpoint(source)
    name = "model.layers.0.mlp.up_proj.weight"
    info = opened.tensors[name]
    changed = TensorInfo(name, dtype, info.shape, info.file, info.offset, info.num_bytes // 2)
    tensors = {**opened.tensors, name: changed}
    quantized = SourceCheckpoint(opened.config, tensors, opened.weight_files)
    with pytest.raises(RecipeError, match="dtypes that are not converted") as caught:
        plan_conversion(quantized, find_family("LlamaForCausalLM"), Parallelism(1, 1), "bfloat16")
    assert caught.value.facts == (f"`{name}` is {dtype}",)


def test_the_ledger_tells_where_every_tensor_went(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint(tmp_path / "source", TIED)
    tensors = ledgers(plan(folder, 2, 2))["tensors"]
    assert tensors.keys() == tiny.shapes(TIED).keys()
    assert tensors["model.embed_tokens.weight"] == {
        "used_by": [
            {"target": "transformer.vocab_embedding.weight", "ranks": [0, 1]},
            {"target": "lm_head.weight", "ranks": [2, 3]},
        ]
    }
    assert tensors["model.layers.2.self_attn.k_proj.weight"] == {
        "used_by": [{"target": "transformer.layers.0.attention.qkv.weight", "ranks": [2, 3]}]
    }


@pytest.mark.parametrize(
    ("tp_size", "pp_size", "message"),
    [
        (4, 1, "`checkpoint.tp_size` is 4, which does not fit `num_attention_heads` 6"),
        (3, 1, "`checkpoint.tp_size` is 3, which does not fit `num_key_value_heads` 2"),
        (5, 1, "`intermediate_size` 72, `num_attention_heads` 6, `num_key_value_heads` 2"),
        (1, 4, "`checkpoint.pp_size` is 4, but the model has 3 layers"),
        (10**9, 1, "which does not fit"),
    ],
)
def test_a_layout_that_does_not_fit(tp_size: int, pp_size: int, message: str, source: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        plan(source, tp_size, pp_size)
    assert message in caught.value.message
    hint = "use `pp_size: 3` or less" if pp_size > 1 else "work for this model: 1, 2, 6"
    assert caught.value.hint is not None
    assert caught.value.hint.endswith(hint)


def test_a_target_can_be_explained(source: Path) -> None:
    made = plan(source, 2, 1, "float16")
    info = made.source.tensors["model.layers.0.self_attn.o_proj.weight"]
    both = explanation(made, "transformer.layers.0.attention.dense.weight")
    assert [rank["file"] for rank in both] == ["rank0.safetensors", "rank1.safetensors"]
    where = f"bytes {info.offset + 2 * 48}:{info.offset + 2 * 48 * 96} of {info.file}"
    assert both[1] == {
        "file": "rank1.safetensors",
        "dtype": "float16",
        "shape": [48, 48],
        "made": [f"[0:48, 0:48] = `{info.name}`[0:48, 48:96] ({where}), bfloat16 to float16"],
    }
    lines = explanation(made, "lm_head.weight")[1]["made"]
    assert lines[-1] == "[56:57, 0:48] = zeros"
    with pytest.raises(UsageError, match="no rank file holds `lm_head`") as caught:
        explanation(made, "lm_head")
    assert caught.value.facts == ("nearest: `lm_head.weight`",)


@pytest.mark.parametrize(
    ("change", "recipe", "expected"),
    [
        ({}, "float32", "float32"),
        ({}, "auto", "bfloat16"),
        ({"torch_dtype": "float16"}, "auto", "float16"),
        ({"torch_dtype": None, "dtype": "float32"}, "auto", "float32"),
        ({"torch_dtype": "float16", "dtype": "float16"}, "auto", "float16"),
        ({"torch_dtype": None}, "auto", "bfloat16"),
        ({"torch_dtype": "float16", "dtype": "float32"}, "auto", None),
        ({"torch_dtype": "float64"}, "auto", None),
        ({"torch_dtype": 16}, "auto", None),
    ],
)
def test_dtypes(change: dict[str, Any], recipe: str, expected: str | None, source: Path) -> None:
    opened = open_source_checkpoint(source)
    config = {**opened.config, **change}
    changed = SourceCheckpoint(config, opened.tensors, opened.weight_files)
    if expected is None:
        with pytest.raises(RecipeError, match="does not name one dtype") as caught:
            resolve_dtype(recipe, changed)
        assert caught.value.hint is not None
    else:
        assert resolve_dtype(recipe, changed) == expected


def large(num_layers: int, **sizes: int) -> SourceCheckpoint:
    """Headers of a large model, without its weights."""
    config = {**tiny.CONFIG, **sizes, "num_hidden_layers": num_layers}
    tensors, offset = {}, 8
    for name, shape in tiny.shapes(config).items():
        num_bytes = 2 * int(np.prod(shape))
        tensors[name] = TensorInfo(name, "bfloat16", shape, "model.safetensors", offset, num_bytes)
        offset += num_bytes
    return SourceCheckpoint(config, tensors, ("model.safetensors",))


def test_a_plan_of_70_billion_weights_takes_no_time() -> None:
    source = large(
        80,
        vocab_size=128256,
        hidden_size=8192,
        intermediate_size=28672,
        num_attention_heads=64,
        num_key_value_heads=8,
        head_dim=128,
    )
    assert source.weight_bytes > 140e9
    began = time.process_time()
    made = plan_conversion(source, find_family("LlamaForCausalLM"), Parallelism(8, 2), "bfloat16")
    assert made.target_bytes > 140e9
    assert time.process_time() - began < 3
