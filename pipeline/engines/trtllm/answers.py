"""The worker's answers as generations of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.engines.generation import Generation, OnToken
from pipeline.engines.generator import GenerationRequest, cut
from pipeline.errors import ToolFailed

_END_OF_IDS = 1 << 31
"""Token ids are int32 in TensorRT-LLM."""


def read_events(path: Path) -> list[dict[str, Any]]:
    """The worker's events, up to the first line that is none: it may have ended within a line."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_bytes().splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            break
        if not (isinstance(event, dict) and isinstance(event.get("event"), str)):
            break
        found.append(event)
    return found


def check_whole(events: Sequence[Mapping[str, Any]], num_requests: int, *, is_traced: bool) -> None:
    """Raise ToolFailed unless each request has one answer and a trace is there where one is due."""
    answers = sorted(str(e.get("index")) for e in events if e["event"] == "generation")
    traces = [e for e in events if e["event"] == "trace"]
    if answers != sorted(map(str, range(num_requests))) or len(traces) != is_traced:
        raise ToolFailed(
            f"the engine's worker gave {len(answers)} answers and {len(traces)} traces, asked for "
            f"{num_requests} and {int(is_traced)}"
        )


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
    (answer,) = (e for e in events if e["event"] == "generation" and e["index"] == index)
    reason = answer["finish_reason"]
    if reason not in ("stop", "length"):
        raise ToolFailed(
            f"the engine gave no whole answer to prompt {index}: it ended by `{reason}`"
        )
    token_ids, ends = list(answer["token_ids"]), request.sampling.stop_token_ids
    _check_tokens(index, token_ids, answer["stop_reason"], request.sampling.max_new_tokens)
    if reason == "stop" and not (token_ids and token_ids[-1] in ends):
        token_ids.append(min(ends) if answer["stop_reason"] is None else answer["stop_reason"])
    kept, stop_reason = cut(index, token_ids, request.sampling, on_token)
    return Generation(kept, stop_reason, _load_logits(answer["logits"], request, folder))


def _check_tokens(index: int, token_ids: Sequence[int], stop_reason: Any, most: int) -> None:
    wrong = next((number for number in token_ids if not 0 <= number < _END_OF_IDS), None)
    if wrong is not None:
        raise ToolFailed(f"the engine's answer to prompt {index} has {wrong}, which is no token id")
    if len(token_ids) > most:
        raise ToolFailed(
            f"the engine's answer to prompt {index} has {len(token_ids)} tokens, asked for {most}"
        )
    if stop_reason is not None and not isinstance(stop_reason, int):
        raise ToolFailed(
            f"the engine's answer to prompt {index} was stopped by {stop_reason!r}, not by a token"
        )


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
