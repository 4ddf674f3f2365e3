"""Knobs of the stand-in `LLM`, and the record of what it was given.

- `fail`: what the constructor says on stderr before it raises, e.g. a line of TensorRT's log.
- `fail_generate`: the same for `generate`.
- `abort`: end by SIGABRT with this text, as a failed check in C++ does; `kill`: by SIGKILL.
- `hang`: sleep in `construct`, `generate` or `shutdown`; `grandchild`: start processes that stay.
- `missing`: the package cannot be imported. `wrong_token`: added to token ids from its place on.
- `strip_end`: leave end tokens out of outputs. `finish`: another `finish_reason`.
- `kernels`: `{"context": [...], "generation": [...]}`, what the profiler sees.
- `logit_error`: added to context logits; `pad_logits`: more columns for them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HOPPER = {
    "context": [
        "void tensorrt_llm::kernels::applyBiasRopeUpdateKVCacheV2<__nv_bfloat16>(Params)",
        "fmha_v2_flash_attention_bf16_64_128_S_q_paged_kv_128_causal_tma_ws_sm90_kernel",
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1",
    ],
    "generation": [
        "xqa_kernel_dt_bf16_d_128_beam_1_kvt_bf16_pagedKV_32_nqpkv_4_m_8_sm_90",
        "void cublasLt::splitKreduce_kernel<32, 16, int, __nv_bfloat16>(Params)",
    ],
}


def _machine() -> Path:
    return Path(os.environ["STANDIN_MACHINE"])


def control() -> dict[str, Any]:
    """The knobs that are set."""
    knobs: dict[str, Any] = json.loads((_machine() / "llm.json").read_bytes())
    return knobs


def record(**call: Any) -> None:
    """Append one call, with the environment of this process."""
    with (_machine() / "llm-calls.jsonl").open("a") as calls:
        calls.write(json.dumps({**call, "environment": dict(os.environ)}, default=str) + "\n")


def _complain(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def strike(place: str) -> None:
    """Fail at a place (`construct`, `generate`, `shutdown`) where a knob says so."""
    knobs = control()
    if place == "construct" and knobs.get("grandchild"):
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
    if knobs.get("hang") == place:
        time.sleep(1000)
    text = knobs.get({"construct": "fail", "generate": "fail_generate"}.get(place, "never"))
    if text is not None:
        _complain(text)
        raise RuntimeError("Executor worker returned error")
    if place == "generate" and "abort" in knobs:
        _complain(f"  what():  [TensorRT-LLM][ERROR] {knobs['abort']}")
        os.abort()
    if place == "generate" and knobs.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
