"""Converted checkpoints, executed as graphs, against transformers on the source checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.checkpoint.huggingface import open_source_checkpoint
from pipeline.checkpoint.trtllm import TrtllmCheckpoint, open_trtllm_checkpoint
from pipeline.engines.generation import Sampling, generate
from pipeline.engines.onnxruntime.cpu_session import Limits, open_session, session_options
from pipeline.families import find_family
from pipeline.graph.decoder import GraphOptions, decoder_model
from pipeline.progress import Silent
from pipeline.weights.layout import plan_conversion, resolve_dtype
from pipeline.weights.parallel import Parallelism
from pipeline.weights.stream import write_checkpoint

pytestmark = pytest.mark.torch

SIZES = {
    "vocab_size": 113,
    "hidden_size": 48,
    "intermediate_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": None,
    "pad_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
MODELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "tied": {"tie_word_embeddings": True},
    "multi-head": {"num_key_value_heads": 6},
    "multi-query": {"num_key_value_heads": 1},
    "gelu": {"hidden_act": "gelu"},
    "llama3": {"rope_parameters": {"rope_theta": 500000.0, **LLAMA3}},
    "yarn": {"rope_parameters": {"rope_theta": 10000.0, **YARN}},
    "linear": {"rope_parameters": {"rope_theta": 1000.0, "rope_type": "linear", "factor": 2.0}},
    "dynamic": {"rope_parameters": {"rope_theta": 1000.0, "rope_type": "dynamic", "factor": 2.0}},
    "mistral": {"model_type": "mistral", "sliding_window": None},
}
PROMPTS = [
    np.random.default_rng(seed).integers(0, 113, size=1 + seed % 17).tolist() for seed in range(20)
]


def make_model(folder: Path, dtype: str = "float32", **overrides: Any) -> Any:
    """A random model in transformers, norms and biases too, saved as a source checkpoint."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {**SIZES, **overrides}
    config = AutoConfig.for_model(settings.pop("model_type", "llama"), **settings)
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            about, scale = (1.0, 0.2) if "norm" in name else (0.0, parameter.shape[-1] ** -0.5)
            scale = 1.0 if "embed_tokens" in name else scale
            parameter.copy_(about + scale * torch.randn_like(parameter))
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    # Read again: `to` has also rounded the rotary frequencies of the model in memory.
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def convert(source: Path, out_dir: Path, tp_size: int = 1, pp_size: int = 1) -> TrtllmCheckpoint:
    out_dir.mkdir()
    checkpoint = open_source_checkpoint(source)
    family = find_family(checkpoint.architecture)
    dtype = resolve_dtype("auto", checkpoint)
    plan = plan_conversion(checkpoint, family, Parallelism(tp_size, pp_size), dtype)
    write_checkpoint(plan, source, out_dir, Silent())
    return open_trtllm_checkpoint(out_dir)


def graph_logits(checkpoint: TrtllmCheckpoint, token_ids: list[int]) -> NDArray[np.float32]:
    """Logits `[tokens, vocab_size]` of one pass over a prompt."""
    import onnxruntime as ort

    options = GraphOptions(64, "float32", logits="all", fixed_cache=False)
    model, _ = decoder_model(checkpoint, options)
    settings = session_options()
    key = "session.model_external_initializers_file_folder_path"
    settings.add_session_config_entry(key, str(checkpoint.path))
    session = ort.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    size = len(token_ids)
    feeds: dict[str, Any] = {
        "input_ids": np.array([token_ids]),
        "position_ids": np.arange(size)[None],
        "write_indices": np.zeros(1, np.int64),
        "mask": np.tril(np.ones((1, 1, size, size), bool)),
    }
    for port in session.get_inputs():
        if port.name.startswith("past_"):
            feeds[port.name] = np.zeros((1, port.shape[1], size, port.shape[3]), np.float32)
    return np.asarray(session.run(["logits"], feeds)[0][0])


def torch_logits(model: Any, token_ids: list[int]) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        return np.asarray(model(torch.tensor([token_ids])).logits[0].float().numpy())


def torch_greedy(model: Any, token_ids: list[int], num_tokens: int) -> tuple[int, ...]:
    import torch

    with torch.no_grad():
        out = model.generate(
            torch.tensor([token_ids]),
            attention_mask=torch.ones(1, len(token_ids)),
            do_sample=False,
            max_new_tokens=num_tokens,
        )
    return tuple(out[0, len(token_ids) :].tolist())


@pytest.mark.parametrize("name", MODELS)
def test_logits(tmp_path: Path, name: str) -> None:
    model = make_model(tmp_path / "source", **MODELS[name])
    checkpoint = convert(tmp_path / "source", tmp_path / "converted")
    for prompt in (PROMPTS[16], list(range(60))):
        expected = torch_logits(model, prompt)
        error = np.abs(graph_logits(checkpoint, prompt) - expected).max() / np.abs(expected).max()
        assert error < 1e-4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("tp_size", "pp_size"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_layouts_and_dtypes(tmp_path: Path, tp_size: int, pp_size: int, dtype: str) -> None:
    model = make_model(tmp_path / "source", dtype, attention_bias=True)
    checkpoint = convert(tmp_path / "source", tmp_path / "converted", tp_size, pp_size)
    assert checkpoint.config["dtype"] == dtype
    expected = torch_logits(model, PROMPTS[16])
    error = np.abs(graph_logits(checkpoint, PROMPTS[16]) - expected).max()
    assert error / np.abs(expected).max() < 1e-4


@pytest.mark.parametrize("name", ["plain", "llama3"])
def test_greedy_tokens_of_twenty_prompts(tmp_path: Path, name: str) -> None:
    model = make_model(tmp_path / "source", **MODELS[name])
    checkpoint = convert(tmp_path / "source", tmp_path / "converted", tp_size=2)
    options = GraphOptions(96, "float32", fixed_cache=False)
    graph, _ = decoder_model(checkpoint, options)
    session = open_session(graph.SerializeToString(), checkpoint.path, Limits(8, 96))
    found = generate(session, PROMPTS, Sampling(max_new_tokens=64))
    expected = [torch_greedy(model, prompt, 64) for prompt in PROMPTS]
    assert [each.token_ids for each in found] == expected
