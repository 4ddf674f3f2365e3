"""The worker's answers as generations of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.engines.generation import Generation, OnToken
from pipeline.engines.generator import GenerationRequest, cut
from pipeline.errors import ToolFailed


def read_generation(
    index: int,
    request: GenerationRequest,
    events: Sequence[Mapping[str, Any]],
    folder: Path,
    on_token: OnToken | None,
) -> Generation:
    """One answer of the worker, cut where its text ends for us.

    Whether TensorRT-LLM keeps an end token in its output differs between a first and a further one
    (1.2, executor/result.py): it is put back where it is missing.
    """
    answers = [e for e in events if e["event"] == "generation" and e["index"] == index]
    reason = answers[0]["finish_reason"] if len(answers) == 1 else None
    if reason not in {"stop", "length"}:
        raise ToolFailed(
            f"the engine gave no whole answer to prompt {index}: it ended by `{reason}`"
        )
    (answer,) = answers
    token_ids, ends = list(answer["token_ids"]), request.sampling.stop_token_ids
    if reason == "stop" and not (token_ids and token_ids[-1] in ends):
        token_ids.append(min(ends) if answer["stop_reason"] is None else answer["stop_reason"])
    kept, stop_reason = cut(index, token_ids, request.sampling, on_token)
    return Generation(kept, stop_reason, _load_logits(answer["logits"], request, folder))


def _load_logits(name: str | None, request: GenerationRequest, folder: Path) -> Any:
    """float32 `[prompt tokens, padded vocabulary]`, or None where there are none."""
    if name is None:
        return None
    import numpy as np

    logits = np.load(folder / name, allow_pickle=False)
    if logits.ndim != 2 or len(logits) != len(request.token_ids):
        raise ToolFailed(
            f"the engine gave prompt logits of shape {list(logits.shape)} for a prompt of "
            f"{len(request.token_ids)} tokens"
        )
    return logits
