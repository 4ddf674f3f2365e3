"""Tokens and logits of an engine beside those of a reference."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.engines.comparison import NO_LOGITS, compare, compare_with, faults
from pipeline.engines.generation import Generation
from pipeline.engines.generator import GenerationRequest, SessionGenerator
from pipeline.errors import VerificationError
from pipeline.recipe.smoke_section import Compare
from tests.engines.test_generator import Counting


def generation(*token_ids: int, logits: float | None = None, columns: int = 4) -> Generation:
    """A generation whose prompt of two tokens has these logits everywhere."""
    rows = None if logits is None else np.full((2, columns), logits, dtype=np.float32)
    return Generation(token_ids, "length", rows)


@pytest.mark.parametrize(
    ("engine", "reference", "place"),
    [
        ((1, 2, 3), (1, 2, 3), None),
        ((1, 2, 4), (1, 2, 3), 2),
        ((9, 2, 3), (1, 2, 3), 0),
        ((1, 2), (1, 2, 3), 2),
        ((1, 2, 3), (1, 2), 2),
        ((), (), None),
    ],
)
def test_the_first_difference_is_found(
    engine: tuple[int, ...], reference: tuple[int, ...], place: int | None
) -> None:
    (found,) = compare([generation(*engine)], [generation(*reference)], 4)
    assert found.first_difference == place
    assert found.as_json()["reference_token_ids"] == list(reference)


def test_only_differences_before_the_wanted_number_are_faults() -> None:
    found = compare([generation(1, 2, 4)], [generation(1, 2, 3)], 4)
    assert faults(found, Compare(min_equal_tokens=2)) == []
    assert faults(found, Compare(min_equal_tokens=3)) == [
        "`smoke.prompts[0]`: the tokens differ from token 2 on",
        "  engine    ... 4",
        "  reference ... 3",
    ]
    equal = compare([generation(1)], [generation(1)], 4)
    assert faults(equal, Compare(min_equal_tokens=100)) == []


def test_logits_are_compared_without_the_padding_of_the_vocabulary() -> None:
    engine, reference = generation(1, logits=0.5, columns=6), generation(1, logits=0.25)
    found = compare([engine], [reference], 4)
    assert found[0].logit_error == 0.25
    assert faults(found, Compare(max_logit_error=0.25)) == []
    assert faults(found, Compare()) == []
    (line,) = faults(found, Compare(max_logit_error=0.2))
    assert line == "`smoke.prompts[0]`: the logits of the prompt differ by 0.25, allowed are 0.2"


def test_logits_that_are_no_numbers_are_a_fault() -> None:
    found = compare([generation(1, logits=float("nan"))], [generation(1, logits=0.0)], 4)
    assert faults(found, Compare(max_logit_error=1e9))


def test_the_reference_gets_the_same_requests() -> None:
    from pipeline.engines.generation import Sampling

    requests = [GenerationRequest((1, 2), Sampling(2), wants_logits=True)]
    good, bad = [Generation((3, 4), "length")], [Generation((3, 5), "length")]
    record = compare_with(SessionGenerator(Counting()), requests, good, Compare(), 7)
    assert record["compared"] is True
    assert record["logits"] == NO_LOGITS
    assert record["executed_by"]["backend"] == "counting"
    assert record["prompts"][0]["first_difference"] is None
    with pytest.raises(VerificationError, match=r"more than `smoke\.compare` allows") as caught:
        compare_with(SessionGenerator(Counting()), requests, bad, Compare(min_equal_tokens=2), 7)
    assert "from token 1 on" in caught.value.facts[0]
