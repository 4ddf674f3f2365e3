"""The decoder graph on an NVIDIA GPU against transformers eager: same weights, dtype and tokens.

`python -m tests.bench gpu`, where torch with CUDA, transformers and `onnxruntime-gpu` are. Prefill
is the time of `start`, decoding that of a step with its greedy choice, both with the logits of the
last token on the host; medians. transformers' model is called step by step, without `generate`.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.children import why_absent
from tests.bench.makers import converted
from tests.bench.models import cut, title, write_llama
from tests.bench.sources import SMALL

B1 = {**SMALL, "intermediate_size": 8192, "num_hidden_layers": 16}
DTYPES = ("bfloat16", "float16")
BATCHES, PROMPTS, MAX_LENGTH = (1, 8), (64, 128, 512), 1024
ROUNDS, STEPS, SETTLING = 5, 40, 8
UNEQUAL = (5, 37, 120, 400)
"""Lengths of the prompts whose logits and greedy tokens are compared, as one batch."""

NUM_TOKENS = 64

Logits = NDArray[np.float32]


def measure(folder: Path) -> Iterator[str]:
    """Parity in float32, then logits, kernels and times in each half precision."""
    absent = why_absent(("torch", "transformers", "onnxruntime"))
    if absent is None:
        import torch

        absent = None if torch.cuda.is_available() else "torch sees no GPU"
    if absent is not None:
        yield f"on a GPU: skipped, because {absent}"
        return
    config = cut(B1)
    yield f"{title(config)}, random, on one {_device()}; cache of {MAX_LENGTH} slots"
    source = folder / "source"
    write_llama(source, config, "bfloat16")
    rng = np.random.default_rng(0)
    prompts = [rng.integers(3, config["vocab_size"], length).tolist() for length in UNEQUAL]
    exact, tokens = _with_transformers(source, "float32", lambda model: _greedy(model, prompts))
    yield from _in_float32(folder, source, prompts, exact, tokens)
    for dtype in DTYPES:
        yield from _in_half(folder, source, dtype, prompts, exact)


def _device() -> str:
    from pipeline.hardware import detect

    return detect().gpus[0].name


def _with_transformers(source: Path, dtype: str, use: Callable[[Any], Any]) -> Any:
    """What `use` makes of the model, whose memory is free afterwards."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_grad_enabled(False)
    torch.backends.cuda.matmul.allow_tf32 = False
    model = AutoModelForCausalLM.from_pretrained(
        source, attn_implementation="eager", dtype=getattr(torch, dtype)
    )
    found = use(model.to("cuda").eval())
    del model
    gc.collect()
    torch.cuda.empty_cache()
    return found


def _greedy(model: Any, prompts: Sequence[Sequence[int]]) -> tuple[list[Logits], list[list[int]]]:
    """The logits after each prompt, and `NUM_TOKENS` greedy tokens."""
    import torch

    tokens = []
    for prompt in prompts:
        ids = torch.tensor([prompt], device="cuda")
        made = model.generate(
            ids, max_new_tokens=NUM_TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        tokens.append(made[0, len(prompt) :].tolist())
    return _logits(model, prompts), tokens


def _logits(model: Any, prompts: Sequence[Sequence[int]]) -> list[Logits]:
    import torch

    rows = (model(torch.tensor([prompt], device="cuda")).logits[0, -1] for prompt in prompts)
    return [row.float().cpu().numpy() for row in rows]


def _session(folder: Path, source: Path, dtype: str, batch: int) -> Any:
    """Ours, as the backend opens it."""
    from pipeline.engines.onnxruntime.cuda_session import open_session
    from pipeline.engines.onnxruntime.inference import Limits
    from pipeline.graph.decoder import write_decoder

    work = folder / dtype
    work.mkdir()
    checkpoint, graph = converted(source, work, dtype), work / "decoder.onnx"
    write_decoder(
        checkpoint,
        graph,
        max_seq_len=MAX_LENGTH,
        compute_dtype=dtype,
        form="lengths",
        cache_order="tokens",
    )
    return open_session(graph, work, Limits(batch, MAX_LENGTH), _device())


def _in_float32(
    folder: Path,
    source: Path,
    prompts: Sequence[Sequence[int]],
    exact: Sequence[Logits],
    expected: Sequence[Sequence[int]],
) -> Iterator[str]:
    session = _session(folder, source, "float32", len(prompts))
    rows = session.start(prompts)
    error = _largest(rows, exact)
    tokens: list[list[int]] = [[] for _ in prompts]
    for _ in range(NUM_TOKENS):
        ids = rows.argmax(-1).tolist()
        for found, token_id in zip(tokens, ids, strict=True):
            found.append(token_id)
        rows = session.step(ids)
    equal = sum(a == list(b) for a, b in zip(tokens, expected, strict=True))
    yield (
        f"float32: {NUM_TOKENS} greedy tokens equal to transformers' for {equal} of {len(prompts)} "
        f"prompts read as one batch; largest difference of logits {error:.1e} of the largest logit"
    )


def _in_half(
    folder: Path,
    source: Path,
    dtype: str,
    prompts: Sequence[Sequence[int]],
    exact: Sequence[Logits],
) -> Iterator[str]:
    rng = np.random.default_rng(1)
    asked = {
        (batch, length): rng.integers(3, 30000, (batch, length)).tolist()
        for batch in BATCHES
        for length in PROMPTS
    }

    def use(model: Any) -> tuple[list[Logits], dict[tuple[int, int], tuple[float, float]]]:
        times = {shape: _their_times(model, given) for shape, given in asked.items()}
        return _logits(model, prompts), times

    theirs, their_times = _with_transformers(source, dtype, use)
    session = _session(folder, source, dtype, max(BATCHES))
    ours = session.start(prompts).copy()
    yield (
        f"{dtype}: logits differ from transformers' by {_far(ours, theirs)}; from those in "
        f"float32 ours by {_far(ours, exact)}, transformers' by {_far(theirs, exact)} (norms); "
        f"the largest difference is {_largest(ours, theirs):.1e} of the largest logit"
    )
    yield from _kernels(session)
    yield from _speeds(session, asked, their_times)


def _far(rows: Sequence[Logits], others: Sequence[Logits]) -> str:
    norms = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(rows, others, strict=True)]
    return f"{min(norms):.1e} to {max(norms):.1e}"


def _largest(rows: Sequence[Logits], others: Sequence[Logits]) -> float:
    return max(
        float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(rows, others, strict=True)
    )


def _kernels(session: Any) -> Iterator[str]:
    from pipeline.engines.traced_generator import observe

    seen = observe(session.plain(), [5, 6, 7])
    if "context" not in seen:
        yield f"  attention kernels: {seen['status']}, {seen['reason']}"
        return
    for phase in ("context", "generation"):
        names = ", ".join(name[:72] for name in seen[phase]["kernels"])
        yield f"  {phase}: {seen[phase]['status']}: {names}"


def _speeds(
    session: Any,
    asked: Mapping[tuple[int, int], list[list[int]]],
    theirs: Mapping[tuple[int, int], tuple[float, float]],
) -> Iterator[str]:
    plain = session.plain()
    for (batch, length), given in asked.items():
        read, step = _our_times(session, given)
        _, launched = _our_times(plain, given)
        their_read, their_step = theirs[batch, length]
        yield (
            f"  batch {batch}, prompts of {length}: prefill {read:.1f} ms, "
            f"{their_read / read:.1f} times as fast as transformers eager ({their_read:.1f} ms); "
            f"decoding {step:.2f} ms a step, {their_step / step:.1f} times as fast "
            f"({their_step:.1f} ms); without CUDA graph {launched:.2f} ms"
        )


def _their_times(model: Any, given: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Milliseconds of a prefill and of a step."""
    import torch
    from transformers import DynamicCache

    ids = torch.tensor(given, device="cuda")
    out: Any = None
    reads, steps = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        cache = DynamicCache(config=model.config)
        out = model(ids, past_key_values=cache, logits_to_keep=1)
        out.logits.cpu()
        reads.append(time.perf_counter() - began)
    token = out.logits[:, -1].argmax(-1, keepdim=True)
    for _ in range(STEPS):
        began = time.perf_counter()
        out = model(token, past_key_values=out.past_key_values)
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        token.cpu()
        steps.append(time.perf_counter() - began)
    return _median(reads[1:]), _median(steps[SETTLING:])


def _our_times(session: Any, given: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Milliseconds of a prefill and of a step."""
    reads, steps = [], []
    rows: Any = None
    for _ in range(ROUNDS):
        began = time.perf_counter()
        rows = session.start(given)
        reads.append(time.perf_counter() - began)
    ids = rows.argmax(-1).tolist()
    for _ in range(STEPS):
        began = time.perf_counter()
        ids = session.step(ids).argmax(-1).tolist()
        steps.append(time.perf_counter() - began)
    return _median(reads[1:]), _median(steps[SETTLING:])


def _median(seconds: Sequence[float]) -> float:
    return statistics.median(seconds) * 1e3
