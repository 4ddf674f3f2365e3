"""The memory plan: held against published sizes and logs, the inventories, and itself."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pipeline.checkpoint.safetensors_file import ITEM_BYTES
from pipeline.engines.trtllm.memory import (
    estimate,
    fits,
    memory_plan,
    memory_problems,
    memory_report,
    smallest_layout,
)
from pipeline.engines.trtllm.memory.layouts import layout_needs, layouts, with_layout
from pipeline.engines.trtllm.memory.plan import DRIVER_BYTES, usable_bytes
from pipeline.engines.trtllm.memory.rank import RankMemory
from pipeline.engines.trtllm.memory.terms import kv_bytes_per_token
from pipeline.engines.trtllm.memory.weights import rank_weights
from pipeline.errors import RecipeError, ResourceError
from pipeline.families import expected_inventory, find_family
from pipeline.hardware import Gpu, Hardware
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.gpus import KNOWN_GPUS, KnownGpu, find_gpu
from pipeline.weights.layout import plan_conversion
from pipeline.weights.parallel import Parallelism
from tests.engines.trtllm.published_sizes import (
    Config,
    asked,
    config,
    kimi_k2,
    llama_2_7b,
    llama_2_13b,
    llama_8b,
    llama_70b,
    qwen_half_b,
)
from tests.families.fixtures import NAMES, open_fixture

MIB = 1 << 20
NOTHING = Hardware(8, 1 << 40, ())


def gpu(name: str) -> KnownGpu:
    found = find_gpu(name)
    assert found is not None
    return found


def rank(config: Config, settings: EngineSettings) -> RankMemory:
    return memory_plan(config, settings).fullest


def in_execution_context(config: Config, settings: EngineSettings) -> int:
    """What TensorRT-LLM logs as `execution context memory`: activations and workspaces."""
    held = rank(config, settings)
    return sum(held.size_of(name) for name in ("activations", "attention workspace", "logits"))


# Weights


@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_layouts_are_those_of_a_conversion(name: str) -> None:
    source = open_fixture(name)
    family = find_family(source.architecture)
    converted = {}
    for sizes in [(tp, pp) for tp in range(1, 5) for pp in (1, 2)]:
        try:
            converted[sizes] = plan_conversion(source, family, Parallelism(*sizes), "bfloat16")
        except RecipeError:
            continue
    tried = {
        (laid_out["mapping"]["tp_size"], laid_out["mapping"]["pp_size"]): (laid_out, weights)
        for laid_out, weights in layouts(converted[1, 1].config)
    }
    for sizes, plan in converted.items():
        laid_out, weights = tried.pop(sizes, ({}, ()))
        if source.architecture == "JAISLMHeadModel" and sizes[0] > 1:
            continue  # its intermediate_size is made a multiple of tp_size when it is converted
        assert laid_out == plan.config
        assert list(weights) == [on_rank(laid_out, pp_rank) for pp_rank in range(sizes[1])]
    assert all(tp_size > 4 or pp_size > 2 for tp_size, pp_size in tried)
    report = memory_report(converted[1, 1].config, asked())
    assert report["ranks"][0]["terms"][0]["num_bytes"] == on_rank(converted[1, 1].config, 0)


def on_rank(config: Config, pp_rank: int) -> int:
    """Bytes of a rank file's tensors, a tied head not counted beside its embedding."""
    tp_size, pp_size = config["mapping"]["tp_size"], config["mapping"]["pp_size"]
    held = expected_inventory(config, pp_rank * tp_size)
    sizes = {name: math.prod(shape) * ITEM_BYTES[dtype] for name, (dtype, shape) in held.items()}
    if config.get("tie_word_embeddings") and pp_size == 1:
        head, embedding = held["lm_head.weight"], held["transformer.vocab_embedding.weight"]
        if head == embedding:
            del sizes["lm_head.weight"]
    return sum(sizes.values())


def test_published_sizes_of_weights() -> None:
    assert sum(rank_weights(llama_70b())) == 141_107_412_992  # 70,553,706,496 parameters
    assert sum(rank_weights(llama_8b())) == 16_060_522_496
    assert sum(rank_weights(qwen_half_b())) / 1e9 == pytest.approx(0.99, abs=0.01)
    # 2,053 GB are published; TensorRT-LLM's class has a product of two weights beside them.
    assert sum(rank_weights(kimi_k2())) / 1e9 == pytest.approx(2053, rel=0.01)


def test_a_tied_head_is_a_copy_where_it_is_not_on_the_embeddings_rank_in_its_shape() -> None:
    head = 151936 * 896 * 2
    one = rank_weights(qwen_half_b())[0]
    first, last = rank_weights(with_layout(qwen_half_b(), 1, 2))
    assert first + last == one + head
    assert rank_weights(with_layout(qwen_half_b(tie_word_embeddings=False), 1, 1))[0] == one + head
    shared = {"use_parallel_embedding": True, "embedding_sharding_dim": 0}
    halves = rank_weights(with_layout(qwen_half_b(**shared), 2, 1))[0]
    whole = rank_weights(with_layout(qwen_half_b(), 2, 1))[0]
    assert whole - halves == head  # a half of the embedding, and a half of the head


def test_streamed_weights_are_not_held_and_stripped_ones_not_on_disk() -> None:
    usual, streamed = asked(), asked(weight_streaming=True)
    assert rank(llama_8b(), usual).size_of("weights") == sum(rank_weights(llama_8b()))
    assert rank(llama_8b(), streamed).size_of("weights") < 2 * 10**9
    assert rank(llama_8b(), asked(fast_build=True)) == rank(llama_8b(), usual)
    whole, stripped = (
        memory_plan(llama_8b(), settings).engine_bytes
        for settings in (usual, asked(use_strip_plan=True))
    )
    assert whole - stripped == sum(rank_weights(llama_8b()))


# KV cache


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (llama_70b(), 327_680),
        (kimi_k2(), 70_272),
        (config(num_hidden_layers=46, num_attention_heads=96, num_key_value_heads=8), 188_416),
        (config(num_hidden_layers=40, num_attention_heads=32, num_key_value_heads=2), 40_960),
        (config(num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=4), 57_344),
        (config(num_hidden_layers=24, num_attention_heads=16, num_key_value_heads=8), 98_304),
        (llama_2_7b(quantization={"kv_cache_quant_algo": "FP8"}), 262_144),
        (llama_2_7b(quantization={"kv_cache_quant_algo": "INT8"}), 262_144),
        (llama_2_7b(quantization={"kv_cache_quant_algo": "NVFP4"}), 262_144 * 9 // 16),
    ],
    ids=[
        "llama-70b",
        "kimi-k2",
        "glm-4.6v",
        "glm-4-9b",
        "glm-asr",
        "hunyuan",
        *["fp8", "int8", "fp4"],
    ],
)
def test_published_sizes_of_a_token_in_the_cache(model: Config, expected: int) -> None:
    assert kv_bytes_per_token(model, 0) == expected


def test_the_cache_in_the_log_of_memory_md() -> None:
    """TensorRT-LLM, 1.2, docs/source/legacy/reference/memory.md: 4060 blocks of 64 tokens."""
    per_token = kv_bytes_per_token(llama_2_7b(quantization={"kv_cache_quant_algo": "FP8"}), 0)
    assert round(per_token * 259_840 / 2**30, 2) == 63.44
    assert 4060 * 64 == 259_840


def test_the_cache_in_a_log_of_qwen() -> None:
    """NVIDIA/TensorRT-LLM issue 1188: 395,776 tokens in 4.53 GiB."""
    assert round(kv_bytes_per_token(qwen_half_b(), 0) * 395_776 / 2**30, 2) == 4.53


def test_a_kv_head_is_on_every_rank_where_there_are_fewer_than_ranks() -> None:
    whole = kv_bytes_per_token(llama_70b(), 0)
    for tp_size, ranks in ((1, 1), (2, 2), (4, 4), (8, 8)):
        assert kv_bytes_per_token(with_layout(llama_70b(), tp_size, 1), 0) == whole // ranks
    two_heads = config(num_hidden_layers=40, num_attention_heads=32, num_key_value_heads=2)
    assert kv_bytes_per_token(with_layout({**llama_8b(), **two_heads}, 8, 1), 0) == 20_480
    assert kv_bytes_per_token(with_layout(kimi_k2(), 8, 1), 0) == 70_272


def test_a_pp_rank_caches_its_own_layers() -> None:
    model = with_layout(kimi_k2(), 1, 2)
    assert [kv_bytes_per_token(model, pp_rank) for pp_rank in (0, 1)] == [31 * 1152, 30 * 1152]


def test_layers_without_attention_cache_nothing() -> None:
    source = open_fixture("deci")
    plan = plan_conversion(source, find_family(source.architecture), Parallelism(), "bfloat16")
    heads = [2, 0, 0, 4]  # of its four layers, one has no attention and one a linear in its place
    assert kv_bytes_per_token(plan.config, 0) == 2 * sum(heads) * plan.config["head_size"] * 2


def test_the_cache_holds_whole_pages_of_every_sequence() -> None:
    per_token = kv_bytes_per_token(llama_8b(), 0)
    settings = asked(max_batch_size=3, max_beam_width=2, max_seq_len=1025, tokens_per_block=64)
    assert rank(llama_8b(), settings).size_of("KV cache") == 3 * 2 * 1088 * per_token
    continuous = settings.model_copy(update={"kv_cache_type": "continuous"})
    assert rank(llama_8b(), continuous).size_of("KV cache") == 3 * 2 * 1025 * per_token
    without = settings.model_copy(update={"kv_cache_type": "disabled"})
    assert rank(llama_8b(), without).size_of("KV cache") == 0


def test_a_window_changes_nothing() -> None:
    windowed = llama_8b(sliding_window=128, max_attention_window=[128])
    assert memory_plan(windowed, asked()) == memory_plan(llama_8b(), asked())


# Activations and workspaces: logs that users published


def test_the_unfused_workspace_in_a_log() -> None:
    """NVIDIA/TensorRT-LLM issue 352 (0.5): Llama 2 7B, batch 64, inputs of 2048."""
    settings = asked(
        fused=False, max_batch_size=64, max_input_len=2048, max_seq_len=4096, max_num_tokens=131_072
    )
    workspace = rank(llama_2_7b(), settings).size_of("attention workspace")
    assert workspace == pytest.approx(56_405_524_864, rel=1e-4)


def test_unfused_padded_activations_in_a_log() -> None:
    """Issue 698 (0.6): Llama 2 13B, batch 24, inputs of 2200, padded: 59,395 - 25,267 MiB."""
    settings = asked(
        fused=False,
        max_batch_size=24,
        max_input_len=2200,
        max_seq_len=2300,
        remove_input_padding=False,
    )
    context = in_execution_context(llama_2_13b(), settings)
    assert context == pytest.approx((59_395 - 25_267) * MIB, rel=0.01)


@pytest.mark.parametrize(
    ("model", "limits", "logged_mib"),
    [
        # Issue 1188: Qwen2.5 Coder 0.5B with the defaults of TensorRT-LLM, and with the least.
        (qwen_half_b(), (2048, 8192, 32768, False), 773.51),
        (qwen_half_b(), (1, 512, 32768, False), 43.26),
        # Issue 3636 (0.18): Llama 3.1 8B, all logits of 128,000 tokens kept.
        (llama_8b(dtype="float16"), (64, 128_000, 131_072, True), 37_812.51),
    ],
)
def test_fused_activations_are_those_in_logs_and_up_to_a_fifth_more(
    model: Config, limits: tuple[int, int, int, bool], logged_mib: float
) -> None:
    batch, num_tokens, seq_len, all_logits = limits
    settings = asked(
        max_batch_size=batch,
        max_num_tokens=num_tokens,
        max_seq_len=seq_len,
        gather_context_logits=all_logits,
    )
    context = in_execution_context(model, settings) / MIB
    assert logged_mib <= context <= logged_mib * 6 / 5


def test_buffers_and_decoder_in_a_log() -> None:
    """Issue 1188: 2.66 GB for runtime buffers and 5.76 GB for the decoder (in powers of 1024)."""
    settings = asked(max_batch_size=2048, max_num_tokens=8192, max_seq_len=32768)
    held = rank(qwen_half_b(), settings)
    assert held.size_of("runtime buffers") / 2**30 == pytest.approx(2.66, rel=0.07)
    assert held.size_of("decoder") / 2**30 == pytest.approx(5.76, rel=0.03)


def test_fallback_needs_the_unfused_workspace_unless_fusion_is_required() -> None:
    odd = llama_8b(head_size=112)  # TRTLLM-GEN has no kernel of this head size
    small = {"max_input_len": 512, "max_seq_len": 1024, "targets": ("sm100",)}
    allowed = rank(odd, asked(**small)).size_of("attention workspace")
    required = rank(odd, asked(require=True, **small)).size_of("attention workspace")
    assert allowed > 2 * required
    assert allowed == rank(odd, asked(fused=False, **small)).size_of("attention workspace")


def test_ranks_that_talk_have_buffers_for_it() -> None:
    one, two = (rank(with_layout(llama_8b(), tp, 1), asked()) for tp in (1, 2))
    assert one.size_of("communication") == 0
    assert two.size_of("communication") > 2 * 2 * 64 * MIB


# The host


def test_the_host_holds_a_ranks_weights_twice_for_each_worker() -> None:
    model = with_layout(llama_70b(), 4, 1)
    weights, ranks = rank_weights(model)[0], 4
    for workers, at_once in ((1, 1), (2, 2), (16, ranks)):
        found = estimate(model, asked(workers=workers))
        assert found["memory_bytes"] == at_once * (2 * weights + 4096 * MIB)
        assert found["disk_bytes"] == ranks * (weights + 64 * MIB) + 32 * MIB


# Fitting


def test_what_fits_and_what_does_not() -> None:
    assert not fits(memory_plan(llama_70b(), asked()), gpu("H100"))
    assert not fits(memory_plan(with_layout(llama_70b(), 2, 1), asked()), gpu("A100 40"))
    assert fits(memory_plan(with_layout(llama_70b(), 2, 1), asked()), gpu("H100"))
    assert fits(memory_plan(llama_8b(), asked()), gpu("L4"))
    assert not fits(memory_plan(llama_8b(), asked()), gpu("T4"))
    assert fits(memory_plan(llama_8b(), asked()), Gpu("any", "sm90", 24 << 30, "580"))


def test_the_driver_keeps_some_of_what_a_gpu_has() -> None:
    need = memory_plan(llama_8b(), asked()).fullest.num_bytes
    assert fits(memory_plan(llama_8b(), asked()), Gpu("x", "sm90", need + DRIVER_BYTES, "580"))
    assert not fits(
        memory_plan(llama_8b(), asked()), Gpu("x", "sm90", need + DRIVER_BYTES - 1, "580")
    )


@pytest.mark.parametrize(
    ("model", "name", "expected"),
    [
        (llama_8b(), "L4", (1, 1)),
        (llama_8b(), "T4", (2, 1)),
        (llama_70b(), "H100", (2, 1)),
        (llama_70b(), "RTX 4090", (8, 1)),
        (llama_70b(), "H200", (1, 1)),
        (kimi_k2(), "H200", (8, 2)),
        (kimi_k2(), "B200", (4, 3)),
        (kimi_k2(), "T4", None),
    ],
)
def test_smallest_layouts(model: Config, name: str, expected: tuple[int, int] | None) -> None:
    assert smallest_layout(model, asked(), gpu(name)) == expected


@examples(max_examples=30)
@given(
    model=st.sampled_from([llama_8b(), llama_70b(), qwen_half_b(), kimi_k2()]),
    target=st.sampled_from(KNOWN_GPUS),
    batch=st.sampled_from([1, 8, 64]),
)
def test_the_smallest_layout_fits_and_no_smaller_one_does(
    model: Config, target: KnownGpu, batch: int
) -> None:
    settings = asked(max_batch_size=batch)
    found = smallest_layout(model, settings, target)
    for layout, need in layout_needs(model, settings):
        assert (need <= usable_bytes(target)) == (layout == found)
        if layout == found:
            plan = memory_plan(with_layout(model, *layout), settings)
            assert plan.fullest.num_bytes == need
            assert fits(plan, target)
            break
    else:
        assert found is None


LIMITS = {
    "max_batch_size": st.integers(1, 512),
    "max_seq_len": st.integers(2, 200_000),
    "max_input_len": st.integers(1, 20_000),
    "max_num_tokens": st.integers(1, 100_000),
    "max_beam_width": st.integers(1, 8),
    "max_draft_len": st.integers(0, 16),
    "max_prompt_embedding_table_size": st.integers(0, 5000),
}


@given(data=st.data(), fused=st.booleans(), pp_size=st.sampled_from([1, 3]))
def test_a_higher_limit_never_needs_less(data: Any, fused: bool, pp_size: int) -> None:
    values = {key: data.draw(limit, label=key) for key, limit in LIMITS.items()}
    key = data.draw(st.sampled_from(sorted(LIMITS)), label="raised")
    raised = {**values, key: values[key] + data.draw(st.integers(1, 10_000), label="by")}
    model = with_layout(llama_8b(), 1, pp_size)
    needs = [
        memory_plan(model, asked(fused).model_copy(update=limits)) for limits in (values, raised)
    ]
    for before, after in zip(needs[0].ranks, needs[1].ranks, strict=True):
        for term in before.terms:
            assert after.size_of(term.name) >= term.num_bytes, term.name


@pytest.mark.parametrize("model", [llama_8b(), llama_70b(), qwen_half_b(), kimi_k2()])
def test_more_ranks_never_have_more_each(model: Config) -> None:
    """What every rank repeats (embedding, norms, routers, K/V heads) is there with one rank too."""
    sizes = [rank_weights(laid_out)[0] for laid_out, _ in layouts(model) if is_tp_alone(laid_out)]
    untied = rank_weights({**model, "tie_word_embeddings": False})[0]
    assert sizes[1:] == sorted(sizes[1:], reverse=True)
    assert max(sizes[1:], default=0) <= untied


def is_tp_alone(config: Config) -> bool:
    return bool(config["mapping"]["pp_size"] == 1)


def test_all_layouts_are_tried_once_and_small_ones_first() -> None:
    tried = [layout for layout, _ in layout_needs(llama_70b(), asked())]
    assert tried[:6] == [(1, 1), (2, 1), (1, 2), (1, 3), (4, 1), (2, 2)]
    assert set(tried) == {(tp, pp) for tp in (1, 2, 4, 8) for pp in range(1, 9)}
    assert len(tried) == len(set(tried))


# Problems


def test_an_engine_that_fits_is_no_problem() -> None:
    assert memory_problems(llama_8b(), asked(), NOTHING) == []


def test_a_target_of_which_no_gpu_is_known_is_not_judged() -> None:
    assert memory_problems(llama_70b(), asked(targets=("sm87",)), NOTHING) == []


def test_the_gpu_in_this_machine_is_judged_before_the_largest_known() -> None:
    small = Hardware(8, 1 << 40, (Gpu("NVIDIA H100 MIG", "sm90", 10 << 30, "580"),))
    (problem,) = memory_problems(llama_8b(), asked(), small)
    assert problem.stage == "build"
    assert problem.kind is ResourceError
    assert "`NVIDIA H100 MIG`, in this machine, has 10.0 GB" in problem.message
    other = Hardware(8, 1 << 40, (Gpu("Tesla T4", "sm75", 15 << 30, "580"),))
    assert memory_problems(llama_8b(), asked(), other) == []


def test_with_several_gpus_each_rank_needs_one() -> None:
    mixed = Hardware(
        8,
        1 << 40,
        (Gpu("small", "sm90", 10 << 30, "580"), Gpu("large", "sm90", 80 << 30, "580")),
    )
    assert memory_problems(llama_8b(), asked(), mixed) == []
    (problem,) = memory_problems(with_layout(llama_8b(), 2, 1), asked(), mixed)
    assert "`small`" in problem.message


def test_memory_that_the_driver_does_not_tell_is_that_of_the_name() -> None:
    spark = Hardware(8, 1 << 40, (Gpu("NVIDIA GB10", "sm121", 0, "580"),))
    assert memory_problems(llama_8b(), asked(targets=("sm121",)), spark) == []
    (problem,) = memory_problems(llama_70b(), asked(targets=("sm121",)), spark)
    assert "`NVIDIA GB10`, in this machine, has 129.9 GB" in problem.message


def test_every_way_that_is_advised_makes_it_fit() -> None:
    settings = asked(max_batch_size=64, max_seq_len=32768, max_num_tokens=400_000)
    (problem,) = memory_problems(llama_8b(), settings, NOTHING)
    ways = [way for way in (problem.hint or "").split(", or ") if way.startswith("lower")]
    assert [way.split("`")[1] for way in ways] == ["engine.max_batch_size", "engine.max_seq_len"]
    for way in ways:
        key, value = way.split("`")[1].removeprefix("engine."), int(way.rpartition(" ")[2])
        lowered = settings.model_copy(update={key: value})
        assert memory_problems(llama_8b(), lowered, NOTHING) == []
        assert memory_problems(llama_8b(), settings.model_copy(update={key: value + 1}), NOTHING)
    assert "set `checkpoint.tp_size: 4`" in (problem.hint or "")
    assert memory_problems(with_layout(llama_8b(), 4, 1), settings, NOTHING) == []


def test_a_paged_cache_may_be_smaller_than_a_whole_batch_if_the_recipe_says_so() -> None:
    settings = EngineSettings(targets=("sm90",), max_batch_size=64, max_seq_len=32768)
    (problem,) = memory_problems(llama_8b(), settings, NOTHING)
    (advised,) = re.findall(r"`engine.kv_cache_tokens: (\d+)` if not", problem.hint or "")
    smaller = settings.model_copy(update={"kv_cache_tokens": int(advised)})
    assert memory_problems(llama_8b(), smaller, NOTHING) == []
    larger = settings.model_copy(update={"kv_cache_tokens": int(advised) + 64})
    assert memory_problems(llama_8b(), larger, NOTHING) != []
    whole = settings.model_copy(update={"kv_cache_tokens": 10**9})
    plans = [memory_plan(llama_8b(), each) for each in (whole, settings)]
    assert plans[0].fullest.num_bytes == plans[1].fullest.num_bytes


def test_two_limits_are_lowered_where_neither_is_enough() -> None:
    settings = asked(max_batch_size=512, max_input_len=100_000, max_seq_len=131_072)
    small = Hardware(8, 1 << 40, (Gpu("small", "sm90", 46 << 30, "580"),))
    hint = memory_problems(llama_8b(), settings, small)[0].hint or ""
    assert "lower `engine.max_batch_size` to" in hint


def test_where_nothing_helps_that_is_said() -> None:
    hardware = Hardware(8, 1 << 40, (Gpu("small", "sm90", 2 << 30, "580"),))
    (problem,) = memory_problems(kimi_k2(), asked(), hardware)
    assert problem.hint == (
        "no known GPU holds it in up to 8 x 8 ranks: use a smaller model or lower the limits"
    )


# The report


def test_the_report_is_json_and_has_the_targets_gpus_first() -> None:
    report = memory_report(with_layout(llama_70b(), 2, 2), asked(targets=("sm89",)))
    assert json.loads(json.dumps(report)) == report
    assert [rank["pp_rank"] for rank in report["ranks"]] == [0, 1]
    for held in report["ranks"]:
        assert held["total_bytes"] == sum(term["num_bytes"] for term in held["terms"])
        assert all(term["formula"] and term["sure"] for term in held["terms"])
    assert report["gpus"][0]["target"] == "sm89"
    assert {row["name"] for row in report["gpus"]} == {known.name for known in KNOWN_GPUS}
    by_name = {row["name"]: row for row in report["gpus"]}
    assert by_name["NVIDIA L40S"]["fits"] is True
    assert by_name["NVIDIA L4"] == {
        "name": "NVIDIA L4",
        "target": "sm89",
        "memory_bytes": 23034 * MIB,
        "usable_bytes": 23034 * MIB - DRIVER_BYTES,
        "sure": "reported",
        "fits": False,
        "smallest": {"tp_size": 8, "pp_size": 1},
    }
