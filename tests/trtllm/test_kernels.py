"""Kernel names and what they say about attention, in each phase."""

from __future__ import annotations

import pytest

from pipeline.trtllm.kernels import ROWS, SHOWN_NAMES, classify, find_row

FLASH = "fmha_v2_flash_attention_bf16_64_128_S_q_paged_kv_128_causal_tma_ws_sm90_kernel"
XQA = "xqa_kernel_dt_bf16_d_128_beam_1_kvt_bf16_pagedKV_32_nqpkv_4_m_8_sm_90"
SOFTMAX = (
    "void tensorrt_llm::kernels::softmax_kernel_h2_v2<__half, 1, 4>(__half*, __half const*, "
    "__half const*, __half const*, long, long, long, long, __half)"
)
GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64"
PREPARATION = "void tensorrt_llm::kernels::applyBiasRopeUpdateKVCacheV2<__half>(Params)"
GEN = "fmhaSm100fKernel_QkvBfloat16OBfloat16H128PagedKvDenseP64MultiCtasKvVarSeqQ16Kv128Static"
GEN_STEP = f"{GEN}SwapsAbForGen"
GEN_CONTEXT = "fmhaSm100fKernel_QkvBfloat16OBfloat16H128PagedKvCausalP64VarSeqQ128PersistentContext"
ORT_FLASH = "void onnxruntime::flash::flash_fwd_kernel<onnxruntime::flash::Flash_fwd_traits<128>>()"
ORT_CUTLASS = (
    "void attention_kernel_batched_impl<AttentionKernel<cutlass::half_t, cutlass::arch::Sm80>>()"
)
ORT_SOFTMAX = "void onnxruntime::cuda::SoftmaxWarpForward<float>()"
ORT_CUDNN = "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7"


@pytest.mark.parametrize(
    ("name", "kind", "phases"),
    [
        (FLASH, "fused", {"context"}),
        ("fmha_v2_flash_attention_fp16_fp32_64_64_S_qkv_80_sm80_kernel_nl", "fused", {"context"}),
        ("fmha_v2_fp16_128_64_ldgsts_sm90_kernel", "fused", {"context"}),
        ("fmha_mhca_fp16_128_64_sm80_kernel", "fused", {"context"}),
        (GEN_CONTEXT, "fused", {"context"}),
        (GEN_STEP, "fused", {"generation"}),
        (XQA, "fused", {"generation"}),
        ("kernel_mha", "fused", {"generation"}),
        (
            "void tensorrt_llm::kernels::mmha::masked_multihead_attention_kernel<__half>(P)",
            "fused",
            {"generation"},
        ),
        (SOFTMAX, "unfused", {"context"}),
        ("void tensorrt_llm::kernels::softmax_kernel<float, 1>(float*)", "unfused", {"context"}),
        (
            "void tensorrt_llm::kernels::add_fusedQKV_bias_transpose_kernel<__half, false>()",
            "unfused",
            {"context"},
        ),
        (PREPARATION, "preparation", {"context", "generation"}),
        (ORT_FLASH, "fused", {"context", "generation"}),
        (ORT_CUTLASS, "fused", {"context", "generation"}),
        (ORT_CUDNN, "fused", {"context", "generation"}),
        (
            "void onnxruntime::cuda::SoftmaxWarpForward<float>()",
            "unfused",
            {"context", "generation"},
        ),
    ],
)
def test_a_name_says_what_ran(name: str, kind: str, phases: set[str]) -> None:
    row = find_row(name)
    assert row is not None
    assert (row.kind, set(row.phases)) == (kind, phases)
    assert row.source
    assert row.means


@pytest.mark.parametrize(
    "name",
    [
        GEMM,
        "void tensorrt_llm::kernels::addBiasSoftMax<float>(float*)",
        "void tensorrt_llm::kernels::topKStage1<float, 128, 8>(float const*)",
        "void tensorrt_llm::kernels::generalRmsNorm<__half>(P)",
        "memset_kernel",
    ],
)
def test_what_is_no_attention_has_no_row(name: str) -> None:
    assert find_row(name) is None


def test_both_phases_must_run_a_fused_kernel() -> None:
    found = classify([FLASH, GEMM, PREPARATION], [XQA, GEMM])
    assert found["status"] == "fused"
    assert found["context"] == {"status": "fused", "kernels": [FLASH]}
    assert found["generation"] == {"status": "fused", "kernels": [XQA]}
    assert classify([FLASH], [GEMM])["status"] == "unknown"
    assert classify([GEMM], [XQA])["status"] == "unknown"


def test_one_part_of_unfused_attention_is_enough() -> None:
    found = classify([FLASH, SOFTMAX], [XQA])
    assert found["status"] == "unfused"
    assert found["context"] == {"status": "unfused", "kernels": [SOFTMAX], "beside": [FLASH]}


def test_a_row_speaks_about_its_phase_only() -> None:
    both = [FLASH, XQA, GEMM]  # as of a trace whose passes were not told apart
    assert classify(both, both)["status"] == "fused"
    assert classify([XQA], [FLASH])["status"] == "unknown"
    unfused = classify([*both, SOFTMAX], [*both, SOFTMAX])
    assert unfused["status"] == "unfused"
    assert unfused["generation"]["status"] == "fused"


def test_unknown_lists_the_names_without_preparation() -> None:
    names = [PREPARATION, *(f"gemm_{number}" for number in range(SHOWN_NAMES + 5))]
    context = classify(names, [])["context"]
    assert context["status"] == "unknown"
    assert context["num_kernels"] == SHOWN_NAMES + 5
    assert len(context["kernels"]) == SHOWN_NAMES
    assert PREPARATION not in context["kernels"]
    assert classify([], [])["context"] == {"status": "unknown", "kernels": [], "num_kernels": 0}


def test_the_kernels_of_onnx_runtime_are_judged_by_the_same_table() -> None:
    assert classify([ORT_FLASH], [ORT_CUDNN])["status"] == "fused"
    assert classify([ORT_CUTLASS], [ORT_CUTLASS])["status"] == "fused"
    assert classify([ORT_FLASH], [ORT_SOFTMAX])["status"] == "unfused"


def test_every_row_names_its_source_and_how_sure_it_is() -> None:
    for row in ROWS:
        assert row.source.count(",") >= 1
        assert row.sure in {"read", "seen", "reported"}
        assert set(row.phases) <= {"context", "generation"}
