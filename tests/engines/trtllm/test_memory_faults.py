"""Four recipes that ask for more memory than there is: what is told, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.console import render_problem
from pipeline.engines.trtllm.memory import memory_problems
from pipeline.hardware import Gpu, Hardware
from pipeline.recipe.load import load_recipe
from tests.engines.trtllm.published_sizes import Config, kimi_k2, llama_8b, llama_70b

NO_GPU = Hardware(8, 1 << 40, ())
L4 = Hardware(8, 1 << 40, (Gpu("NVIDIA L4", "sm89", 23034 << 20, "580"),))

WEIGHTS = "engine: {targets: [sm90]}"
WEIGHTS_TOLD = """\
  build: with tp 1 x pp 1, a rank needs 2063.1 GB of GPU memory, but `NVIDIA GH200 144G HBM3e`, \
the largest known GPU of `sm90`, has 153.2 GB
    weights              2060.6 GB  all tensors of the rank file; a tied head once where it is on \
the embedding's rank (read in a source state of the 1.x line)
    hint: set `checkpoint.tp_size: 8` and `checkpoint.pp_size: 2`"""

CACHE = "engine: {targets: [sm80], max_batch_size: 64, max_input_len: 8192, max_seq_len: 32768}"
CACHE_TOLD = """\
  build: with tp 2 x pp 1, a rank needs 456.4 GB of GPU memory, but `NVIDIA A100 80GB PCIe`, \
the largest known GPU of `sm80`, has 85.1 GB
    KV cache              343.6 GB  bytes per token x max_batch_size x max_beam_width x \
max_seq_len, in whole pages of tokens_per_block (read in a source state of the 1.2 line)
    hint: lower `engine.max_batch_size` to 1, or set `engine.kv_cache_tokens: 57760` if not all \
sequences are long at once, or set `checkpoint.tp_size: 4` and `checkpoint.pp_size: 3`"""

LOGITS = """\
engine:
  targets: [sm89]
  gather_context_logits: true
  max_num_tokens: 49152
  max_seq_len: 8192
"""
LOGITS_TOLD = """\
  build: with tp 2 x pp 1, a rank needs 51.4 GB of GPU memory, but `NVIDIA L4`, in this machine, \
has 23.4 GB
    runtime buffers        25.2 GB  2 x pp_size x (logits of every sequence over the whole \
vocabulary + 4 bytes for each of their tokens), + logits that are kept, hidden states between pp \
ranks, prompt table (inferred, not read)
    hint: lower `engine.max_batch_size` to 1, or lower `engine.max_seq_len` to 2023, or lower \
`engine.max_num_tokens` to 11350, or use a `NVIDIA H100 PCIe` (`sm90`)"""

UNFUSED = """\
engine:
  targets: [sm89]
  attention: {context_fmha: false, require_fused: false}
  use_paged_context_fmha: false
  max_batch_size: 4
  max_input_len: 8192
  max_seq_len: 9216
"""
UNFUSED_TOLD = """\
  build: with tp 1 x pp 1, a rank needs 75.4 GB of GPU memory, but `NVIDIA L4`, in this machine, \
has 23.4 GB
    attention workspace    52.2 GB  unfused: batch x beams x heads of the rank x max_input_len \
squared x (bytes + 4), + Q, K, V, mask and output (read in a source state of the \
1.2 line)
    hint: set `engine.attention.context_fmha: true`, or set `checkpoint.tp_size: 4`, or use a \
`NVIDIA H100 PCIe` (`sm90`)"""

CASES = {
    "weights": (kimi_k2(), WEIGHTS, NO_GPU, WEIGHTS_TOLD),
    "cache": (llama_70b(tp=2), CACHE, NO_GPU, CACHE_TOLD),
    "logits": (llama_8b(tp=2), LOGITS, L4, LOGITS_TOLD),
    "unfused": (llama_8b(), UNFUSED, L4, UNFUSED_TOLD),
}


@pytest.mark.parametrize("case", CASES)
def test_too_little_memory_is_told_with_its_largest_part_and_what_helps(
    case: str, tmp_path: Path
) -> None:
    model, engine, hardware, expected = CASES[case]
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: big\nsource: {{path: model}}\n{engine}", encoding="utf-8")
    assert "\n".join(told(model, path, hardware)) == expected


def told(model: Config, path: Path, hardware: Hardware) -> list[str]:
    """The problem for people: its message, the largest term, the hint."""
    settings = load_recipe(path).recipe.engine
    (problem,) = memory_problems(model, settings, hardware)
    lines = render_problem(problem)
    return [*lines[:2], lines[-1]]
