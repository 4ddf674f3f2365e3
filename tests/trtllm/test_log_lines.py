"""Lines of a build log: what they mean, whose they are, what of them differs from run to run."""

from __future__ import annotations

import pytest

from pipeline.trtllm.log_lines import (
    ALL_BUILT,
    FALLBACKS,
    OVERRIDES,
    STEPS,
    find_line,
    rank_told,
    without_times,
)

STAMP = "[11/25/2026-17:00:00] [TRT-LLM]"


def test_every_known_line_says_what_it_means_and_where_it_is_from() -> None:
    for entry in (*FALLBACKS, *OVERRIDES, *STEPS, ALL_BUILT):
        assert entry.means
        assert entry.source.startswith("TensorRT-LLM")
    names = [entry.name for entry in FALLBACKS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("[TensorRT-LLM][WARNING] Fall back to unfused MHA for data_type = fp16 in sm_75.", "no-"),
        ("[TensorRT-LLM][WARNING] Fall back to unfused MHA because of something new.", "other"),
        ("[TensorRT-LLM][WARNING] TRTLLM-GEN does not support custom mask.", "blackwell"),
        (f"{STAMP} [I] Set PluginConfig.context_fmha to True.", None),
    ],
)
def test_fallbacks_are_told_by_their_start(line: str, name: str | None) -> None:
    found = find_line(FALLBACKS, line)
    assert (found is None) == (name is None)
    assert name is None or (found is not None and found.name.startswith(name))


@pytest.mark.parametrize(
    "line",
    [
        f"{STAMP} [W] Overriding reduce_fusion to False",
        f"{STAMP} [W] FP8 Context FMHA is disabled because it must be used together with the fp8",
        f"{STAMP} [W] FP8 context FMHA is disabled because it is only supported on Ada and Hopper.",
        f"{STAMP} [W] Paged Context FMHA is disabled because it doesn't work with int8 kv cache",
        f"{STAMP} [W] max_num_tokens (9) shouldn't be greater than (8), specifying to (8).",
        f"{STAMP} [W] max_input_len is 9 is larger than max_seq_len 8, clipping it to max_seq_len",
    ],
)
def test_overrides_are_told(line: str) -> None:
    assert find_line(OVERRIDES, line) is not None


def test_the_line_of_every_ordinary_build_is_no_override() -> None:
    line = "padding removal and fMHA are both enabled, max_input_len is not required and will be"
    assert find_line(OVERRIDES, f"{STAMP} [W] {line} ignored") is None


@pytest.mark.parametrize(
    ("line", "rank"),
    [
        ("[11/25/2026-17:00:00] [TRT-LLM] [RANK 3] [W] text", 3),
        ("[TensorRT-LLM][WARNING][12] text", 12),
        ("[TensorRT-LLM][WARNING] text", None),
        (f"{STAMP} [I] Serializing engine to /a/b/rank7.engine...", 7),
        (f"{STAMP} [I] Total time", None),
    ],
)
def test_the_rank_is_what_a_line_tells(line: str, rank: int | None) -> None:
    assert rank_told(line) == rank


def test_the_last_line_is_not_a_step() -> None:
    last = f"{STAMP} [I] Total time of building all engines: 00:00:12"
    assert ALL_BUILT.is_in(last)
    assert find_line(STEPS, last) is None
    step = find_line(STEPS, f"{STAMP} [I] Total time of building Unnamed Network 0: 00:00:05")
    assert step is not None
    assert step.name == "engine"


def test_what_differs_from_run_to_run_is_left_out() -> None:
    lines = {
        f"{STAMP} [I] Total time of building Unnamed Network 0: 00:01:05": "building Unnamed "
        "Network 0: *",
        f"{STAMP} [I] constructing network from module object 2.3456 seconds": "object * seconds",
        f"{STAMP} [I] Build phase peak memory: 1234.56 MB, children: 0.00 MB": "memory: * MB, "
        "children: * MB",
        "[TRT] [W] at 0x7f00ab12cd34 of 3 layers": "at * of 3 layers",
    }
    for line, rest in lines.items():
        clean = without_times(line)
        assert clean.endswith(rest), clean
        assert "11/25" not in clean
