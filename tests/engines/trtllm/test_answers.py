"""What a worker wrote: only a whole answer to each request is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.generation import Sampling
from pipeline.engines.generator import GenerationRequest
from pipeline.engines.trtllm.answers import check_whole, read_events, read_generation
from pipeline.errors import ToolFailed

REQUEST = GenerationRequest((1, 2), Sampling(3, stop_token_ids=frozenset({7})))


def answer(index: int = 0, **keys: Any) -> dict[str, Any]:
    usual = {"token_ids": [4, 5, 6], "finish_reason": "length", "stop_reason": None}
    return {"event": "generation", "index": index, "logits": None, **usual, **keys}


@pytest.mark.parametrize(
    "line", [b'{"event": "gen', b"\xff\xfe", b"[1]", b"7", b"{}", b'{"event": 1}']
)
def test_events_are_read_up_to_the_first_line_that_is_none(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "events.jsonl"
    assert read_events(path) == []
    path.write_bytes(b'{"event": "loaded"}\n' + line + b'\n{"event": "done"}\n')
    assert read_events(path) == [{"event": "loaded"}]


def test_each_request_has_one_answer_and_a_trace_where_asked() -> None:
    trace = {"event": "trace"}
    check_whole([answer(1), answer(0)], 2, is_traced=False)
    check_whole([answer(0), trace], 1, is_traced=True)
    for events in ([answer(0)], [answer(0), answer(0)], [answer(i) for i in range(3)]):
        with pytest.raises(ToolFailed, match=f"gave {len(events)} answers"):
            check_whole(events, 2, is_traced=False)
    for given in ([], [trace, trace]):
        with pytest.raises(ToolFailed, match=f"{len(given)} traces"):
            check_whole([answer(0), *given], 1, is_traced=True)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"finish_reason": None}, "it ended by `None`"),
        ({"finish_reason": ["x"]}, "no whole answer"),
        ({"token_ids": [4, -5]}, "has -5, which is no token id"),
        ({"token_ids": [1 << 31]}, "which is no token id"),
        ({"token_ids": [4] * 4}, "has 4 tokens, asked for 3"),
        ({"finish_reason": "stop", "stop_reason": "word"}, "stopped by 'word'"),
    ],
)
def test_an_answer_that_cannot_be_is_refused(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    assert read_generation(0, REQUEST, [answer()], tmp_path, None).token_ids == (4, 5, 6)
    with pytest.raises(ToolFailed, match=message):
        read_generation(0, REQUEST, [answer(**keys)], tmp_path, None)
