"""The decoder graph, executed by ONNX Runtime, against plain float64 mathematics."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.errors import RecipeError, VerificationError
from pipeline.graph.decoder import write_decoder
from tests.tiny_decoder import (
    EIGHT_HEADS,
    Shape,
    Weights,
    random_weights,
    reference_logits,
    relative_error,
    write_checkpoint,
)

Array = NDArray[Any]
MAX_SEQ_LEN = 24
TOKENS = [5, 111, 17, 0, 112, 64, 3, 90, 41, 41, 7]

SCALINGS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "linear": {"rope_type": "linear", "factor": 2.5},
    "old spelling": {"type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512},
    "yarn tuned": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 4096,
        "attention_factor": 1.7,
        "beta_fast": 16.0,
        "beta_slow": 2.0,
    },
}


class Graph:
    """A decoder graph on ONNX Runtime, its cache carried from call to call by plain values."""

    def __init__(self, path: Path, shape: Shape, batch: int = 1, slots: int = MAX_SEQ_LEN) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.names = [port.name for port in self.session.get_inputs()]
        dims = (batch, shape.num_kv_heads, slots, shape.head_size)
        self.caches = {n: np.zeros(dims, np.float32) for n in self.names if n.startswith("past")}
        self.slots = slots

    def run(self, token_ids: Array, lengths: Array, last_index: Array | None = None) -> Array:
        """Logits of a step that appends `token_ids` `[b, s]` to sequences of `lengths` `[b]`."""
        positions = lengths[:, None] + np.arange(token_ids.shape[1])
        feeds = {
            "input_ids": token_ids,
            "position_ids": positions,
            "write_indices": lengths,
            "mask": np.arange(self.slots) <= positions[:, None, :, None],
            "nonpad_kv_seqlen": lengths + token_ids.shape[1],
            "last_index": last_index,
            **self.caches,
        }
        logits, *presents = self.session.run(None, {name: feeds[name] for name in self.names})
        self.caches = dict(zip(self.caches, presents, strict=True))
        return np.asarray(logits)


def write(folder: Path, shape: Shape, weights: Weights, **options: Any) -> Path:
    """A checkpoint and, beside its rank files, its decoder; returns the path of the decoder."""
    layout = {
        key: options.pop(key) for key in ("tp_size", "pp_size", "shard_embedding") if key in options
    }
    checkpoint = open_trtllm_checkpoint(write_checkpoint(folder, shape, weights, **layout))
    options = {"logits": "all", "compute_dtype": "float32", "max_seq_len": MAX_SEQ_LEN} | options
    write_decoder(checkpoint, folder / "decoder.onnx", **options)
    return folder / "decoder.onnx"


def prefill(path: Path, shape: Shape, **session: Any) -> Array:
    """Logits `[tokens, vocab_size]` of `TOKENS` in one step."""
    return Graph(path, shape, **session).run(np.array([TOKENS]), np.array([0]))[0]


LAYOUTS = [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3)]


@pytest.mark.parametrize(("tp_size", "pp_size"), LAYOUTS)
def test_layouts_compute_the_model(tmp_path: Path, tp_size: int, pp_size: int) -> None:
    shape = replace(Shape(), attn_bias=True, mlp_bias=True)
    weights = random_weights(shape)
    path = write(tmp_path, shape, weights, tp_size=tp_size, pp_size=pp_size)
    assert relative_error(prefill(path, shape), reference_logits(shape, weights, TOKENS)) < 1e-5


@pytest.mark.parametrize(("tp_size", "pp_size"), [(4, 1), (4, 2), (8, 1)])
def test_repeated_kv_heads_are_taken_once(tmp_path: Path, tp_size: int, pp_size: int) -> None:
    weights = random_weights(EIGHT_HEADS)
    path = write(tmp_path, EIGHT_HEADS, weights, tp_size=tp_size, pp_size=pp_size)
    expected = reference_logits(EIGHT_HEADS, weights, TOKENS)
    assert relative_error(prefill(path, EIGHT_HEADS), expected) < 1e-5


@pytest.mark.parametrize("shard_dim", [0, 1])
def test_shared_embedding_is_joined(tmp_path: Path, shard_dim: int) -> None:
    shape, weights = Shape(), random_weights(Shape())
    path = write(tmp_path, shape, weights, tp_size=2, pp_size=2, shard_embedding=shard_dim)
    assert relative_error(prefill(path, shape), reference_logits(shape, weights, TOKENS)) < 1e-5


@pytest.mark.parametrize("name", SCALINGS)
def test_rotary_scalings(tmp_path: Path, name: str) -> None:
    shape = replace(Shape(), rotary_scaling=SCALINGS[name], rotary_base=3000.0)
    weights = random_weights(shape)
    path = write(tmp_path, shape, weights)
    assert relative_error(prefill(path, shape), reference_logits(shape, weights, TOKENS)) < 1e-5


@pytest.mark.parametrize("hidden_act", ["silu", "gelu", "gelu_pytorch_tanh", "gelu_new", "relu"])
def test_activations(tmp_path: Path, hidden_act: str) -> None:
    shape = replace(Shape(), hidden_act=hidden_act)
    weights = random_weights(shape)
    path = write(tmp_path, shape, weights)
    assert relative_error(prefill(path, shape), reference_logits(shape, weights, TOKENS)) < 1e-5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_weights_are_computed_in_float32(tmp_path: Path, dtype: str) -> None:
    shape = replace(Shape(), dtype=dtype)
    weights = random_weights(shape)
    path = write(tmp_path, shape, weights, tp_size=2)
    assert relative_error(prefill(path, shape), reference_logits(shape, weights, TOKENS)) < 1e-5


@pytest.mark.parametrize("logits", ["all", "last"])
def test_flat_linear_layers_compute_the_same(tmp_path: Path, logits: str) -> None:
    shape = replace(Shape(), attn_bias=True, mlp_bias=True)
    weights = random_weights(shape)
    path = write(tmp_path, shape, weights, tp_size=2, logits=logits, flat_linear=True)
    counts = Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)
    assert counts["Gemm"] == 7 * shape.num_layers + 1
    assert counts["MatMul"] == 0
    last = np.array([len(TOKENS) - 1])
    found = Graph(path, shape).run(np.array([TOKENS]), np.array([0]), last)[0]
    expected = reference_logits(shape, weights, TOKENS)
    assert relative_error(found, expected if logits == "all" else expected[-1]) < 1e-5


@pytest.mark.parametrize("form", ["mask", "lengths"])
@pytest.mark.parametrize("fixed_cache", [True, False])
def test_decoding_equals_prefill(tmp_path: Path, form: str, fixed_cache: bool) -> None:
    shape, weights = Shape(), random_weights(Shape())
    path = write(tmp_path, shape, weights, form=form, fixed_cache=fixed_cache)
    slots = MAX_SEQ_LEN if fixed_cache else len(TOKENS)
    graph = Graph(path, shape, slots=slots)
    steps = [graph.run(np.array([TOKENS[:4]]), np.array([0]))[0]]
    steps += [
        graph.run(np.array([TOKENS[place : place + 1]]), np.array([place]))[0]
        for place in range(4, len(TOKENS))
    ]
    expected = reference_logits(shape, weights, TOKENS)
    assert relative_error(np.concatenate(steps), expected) < 1e-5


@pytest.mark.parametrize("form", ["mask", "lengths"])
def test_unequal_lengths_share_a_batch(tmp_path: Path, form: str) -> None:
    shape, weights = Shape(), random_weights(Shape())
    path = write(tmp_path, shape, weights, form=form, logits="last")
    prompts = [TOKENS[:3], TOKENS[2:9], TOKENS[4:5]]
    lengths = np.array([len(prompt) for prompt in prompts])
    padded = np.array([prompt + [99] * (7 - len(prompt)) for prompt in prompts])
    graph = Graph(path, shape, batch=3)
    first = graph.run(padded, np.zeros(3, dtype=np.int64), lengths - 1)
    then = graph.run(np.array([[8], [9], [10]]), lengths, np.zeros(3, dtype=np.int64))
    for row, prompt in enumerate(prompts):
        expected = reference_logits(shape, weights, [*prompt, 8 + row])
        assert relative_error(first[row], expected[-2]) < 1e-5
        assert relative_error(then[row], expected[-1]) < 1e-5


@pytest.mark.parametrize(
    ("written", "used"),
    [
        ({"rotary_base": 10000.0}, {"rotary_base": 500.0}),
        ({"rotary_scaling": SCALINGS["llama3"]}, {"rotary_scaling": None}),
        ({"rotary_scaling": SCALINGS["yarn"]}, {"rotary_scaling": SCALINGS["linear"]}),
        ({"norm_epsilon": 1e-5}, {"norm_epsilon": 1e-2}),
        ({"attn_bias": False}, {"attn_bias": True}),
        ({"hidden_act": "silu"}, {"hidden_act": "gelu"}),
    ],
)
def test_the_comparison_sees_a_wrong_graph(
    tmp_path: Path, written: dict[str, Any], used: dict[str, Any]
) -> None:
    shape = replace(Shape(), **written)
    weights = random_weights(shape)
    computed = prefill(write(tmp_path, shape, weights), shape)
    wrong = reference_logits(replace(shape, **used), weights, TOKENS)
    assert relative_error(computed, wrong) > 1e-3


def test_same_bytes_from_another_folder(tmp_path: Path) -> None:
    shape, weights = Shape(), random_weights(Shape())
    first = write(tmp_path / "a", shape, weights, tp_size=2)
    second = write(tmp_path / "elsewhere" / "b", shape, weights, tp_size=2)
    assert first.read_bytes() == second.read_bytes()
    assert str(tmp_path).encode() not in first.read_bytes()


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_graph_is_valid_onnx(tmp_path: Path, compute_dtype: str) -> None:
    shape = replace(Shape(), dtype="bfloat16")
    weights = random_weights(shape)
    path = write(tmp_path, shape, weights, tp_size=2, pp_size=2, compute_dtype=compute_dtype)
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path, load_external_data=False)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 24)]
    assert model.producer_name == "trtllm-pack"
    weight_bytes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    assert weight_bytes < 2 * MAX_SEQ_LEN * shape.head_size * 4 + 200  # tables and shapes alone


def test_facts_count_the_graph(tmp_path: Path) -> None:
    shape = replace(Shape(), dtype="float16")
    folder = write_checkpoint(tmp_path, shape, random_weights(shape), tp_size=2)
    facts = write_decoder(
        open_trtllm_checkpoint(folder),
        folder / "decoder.onnx",
        max_seq_len=MAX_SEQ_LEN,
        compute_dtype="float16",
    )
    assert facts.attention_sites == 3
    assert facts.op_counts["Attention"] == 3
    assert facts.op_counts["TensorScatter"] == facts.op_counts["RotaryEmbedding"] == 6
    assert facts.op_counts["RMSNormalization"] == 7
    assert facts.op_counts["Cast"] == 1  # of the logits: the weights are used as they are stored
    assert facts.weight_files == ("rank0.safetensors", "rank1.safetensors")
    ports = {port.name: (port.dtype, port.dims) for port in facts.inputs}
    assert ports["mask"] == ("bool", ("batch", 1, "seq", MAX_SEQ_LEN))
    assert ports["past_value.2"] == ("float16", ("batch", 2, MAX_SEQ_LEN, 16))
    assert facts.outputs[0].name == "logits"
    assert facts.outputs[0].dims == ("batch", shape.vocab_size)


def test_dynamic_scaling_is_refused_beyond_its_trained_length(tmp_path: Path) -> None:
    shape = replace(Shape(), rotary_scaling=SCALINGS["dynamic"], max_position_embeddings=20)
    with pytest.raises(RecipeError, match=r"`engine.max_seq_len` is 24.*dynamic NTK") as caught:
        write(tmp_path, shape, random_weights(shape))
    assert caught.value.hint == "set `engine.max_seq_len` to at most 20"
    assert not (tmp_path / "decoder.onnx").exists()


def test_an_alpha_that_scales_all_positions_is_refused(tmp_path: Path) -> None:
    whole = Shape(rotary_scaling={**SCALINGS["dynamic"], "alpha": 1.0})
    write(tmp_path, whole, random_weights(whole))
    scaled = replace(whole, rotary_scaling={**SCALINGS["dynamic"], "alpha": 1000.0})
    with pytest.raises(RecipeError, match=r"the `alpha` 1000.0"):
        write(tmp_path / "scaled", scaled, random_weights(scaled))


def test_missing_and_misshapen_tensors_are_all_named(tmp_path: Path) -> None:
    shape = Shape()
    folder = write_checkpoint(
        tmp_path, shape, random_weights(shape), attn_bias=True, intermediate_size=80
    )
    with pytest.raises(VerificationError, match="rank files do not hold") as caught:
        write_decoder(
            open_trtllm_checkpoint(folder),
            folder / "decoder.onnx",
            max_seq_len=MAX_SEQ_LEN,
            compute_dtype="float32",
        )
    facts = caught.value.facts
    missing = "`transformer.layers.2.attention.qkv.bias` is missing from `rank0.safetensors`"
    assert missing in facts
    assert (
        "`transformer.layers.1.mlp.proj.weight` of `rank0.safetensors` is float32 [40, 72], "
        "expected float32 [40, 80]"
    ) in facts
    assert len(facts) == len(set(facts)) == 3 * 5
