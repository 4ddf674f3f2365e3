"""The inputs of one step: where tokens stand, what they write and what they see."""

from __future__ import annotations

import numpy as np

from pipeline.engines.batch import decode_step, prefill_steps

PROMPTS = [[7, 8, 9], [4], [1, 2, 3, 5, 6]]


def test_prompts_are_padded_on_the_right() -> None:
    (step,) = prefill_steps(PROMPTS, max_tokens=100)
    assert step.input_ids.tolist() == [[7, 8, 9, 0, 0], [4, 0, 0, 0, 0], [1, 2, 3, 5, 6]]
    assert step.position_ids.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert step.write_indices.tolist() == [0, 0, 0]
    assert step.last_index.tolist() == [2, 0, 4]
    assert step.finished_rows.tolist() == [True, True, True]
    assert step.slots_needed == 5


def test_a_piece_finishes_the_prompts_that_end_in_it() -> None:
    steps = list(prefill_steps(PROMPTS, max_tokens=6))  # two tokens of each at a time
    assert [step.input_ids.shape for step in steps] == [(3, 2), (3, 2), (3, 1)]
    assert [step.write_indices.tolist() for step in steps] == [[0] * 3, [2] * 3, [4] * 3]
    assert [step.finished_rows.tolist() for step in steps] == [
        [False, True, False],
        [True, False, False],
        [False, False, True],
    ]
    assert [int(step.last_index[row]) for step, row in zip(steps, (1, 0, 2), strict=True)] == [
        0,
        0,
        0,
    ]


def test_a_long_batch_reads_at_least_one_token_at_a_time() -> None:
    assert len(list(prefill_steps(PROMPTS, max_tokens=1))) == 5


def test_a_token_sees_itself_and_what_came_before() -> None:
    (step,) = prefill_steps([[7, 8, 9], [4]], max_tokens=100)
    mask = step.mask(4)
    assert mask.shape == (2, 1, 3, 4)
    assert mask[0, 0].tolist() == np.tril(np.ones((3, 4), dtype=bool)).tolist()


def test_each_sequence_decodes_at_its_own_length() -> None:
    step = decode_step([11, 12], np.array([3, 1]))
    assert step.input_ids.tolist() == [[11], [12]]
    assert step.position_ids.tolist() == [[3], [1]]
    assert step.write_indices.tolist() == [3, 1]
    assert step.nonpad_kv_seqlen().tolist() == [4, 2]
    assert step.mask(5)[:, 0, 0].astype(int).tolist() == [[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]
