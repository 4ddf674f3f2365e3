"""Which layers have a sliding window, as config.json of the target says it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.errors import RecipeError
from pipeline.weights.attention_windows import ATTENTION_WINDOWS
from pipeline.weights.config_translation import Translation
from tests import tiny
from tests.families.fixtures import FIXTURES
from tests.weights.test_config_translation import MISTRAL, refused, run, told

LAYERS = 3


def of(name: str, **changes: Any) -> dict[str, Any]:
    """The config of a stored checkpoint with other keys; None takes one away."""
    config: dict[str, Any] = json.loads((FIXTURES / name / "config.json").read_text())
    config |= changes
    return {key: value for key, value in config.items() if key not in changes or value is not None}


SLIDING, FULL = "sliding_attention", "full_attention"
QWEN: dict[str, Any] = {"use_sliding_window": True, "sliding_window": 16, "layer_types": None}

WINDOWS: dict[str, tuple[dict[str, Any], list[int | None] | None]] = {
    "llama": (tiny.CONFIG, None),
    "llama, not read": ({**tiny.CONFIG, "sliding_window": 7}, None),
    "mistral, by default": (MISTRAL, [4096] * 3),
    "mistral": ({**MISTRAL, "sliding_window": 7}, [7] * 3),
    "mistral, none": ({**MISTRAL, "sliding_window": None}, None),
    "mixtral, none": (of("mixtral"), None),
    "mixtral": (of("mixtral", sliding_window=24), [24] * 3),
    "starcoder2": (of("starcoder2"), [64] * 3),
    "phi3": (of("phi3"), [2047] * 3),
    "phimoe": (of("phimoe"), [131072] * 3),
    "gemma2": (of("gemma2"), [32, None, 32]),
    "gemma2, older": (of("gemma2", layer_types=None), [32, None, 32]),
    "gemma2, by default": (of("gemma2", sliding_window=None), [4096, None, 4096]),
    "gemma2, other layers": (of("gemma2", layer_types=[FULL, FULL, SLIDING]), [None, None, 32]),
    "qwen2, not used": (of("qwen2"), None),
    "qwen2": (of("qwen2", **QWEN, max_window_layers=1), [None, 16, 16]),
    "qwen2, by default": (of("qwen2", **QWEN, max_window_layers=None), None),
    "qwen2, all layers": (of("qwen2", **QWEN, max_window_layers=0), [16] * 3),
    "qwen2, no layer": (of("qwen2", **QWEN, max_window_layers=3), None),
    "qwen3": (
        of("qwen3", **{**QWEN, "layer_types": [SLIDING, FULL, SLIDING]}, max_window_layers=1),
        [16, None, 16],
    ),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_windows(name: str) -> None:
    config, windows = WINDOWS[name]
    made = run(config)
    assert made.config.get(ATTENTION_WINDOWS, "absent") == (windows or "absent")
    assert made.window == min((size for size in windows or () if size is not None), default=None)
    assert made.longest_tokens is None
    if windows:
        assert list(made.config)[-1] == ATTENTION_WINDOWS


def test_the_ledger_says_where_a_window_went() -> None:
    use = {"use": "translated", "to": ATTENTION_WINDOWS, "value": 64}
    assert run({**MISTRAL, "sliding_window": 64}).ledger["sliding_window"] == use
    assert run({**tiny.CONFIG, "sliding_window": 64}).ledger["sliding_window"]["use"] == "inert"
    because = run(of("qwen2", sliding_window=64)).ledger["sliding_window"]
    assert because == {"use": "inert", "because": "only read if `use_sliding_window`"}


def test_gemma3_says_it_by_keys_of_its_class() -> None:
    made = run(of("gemma3"))
    assert ATTENTION_WINDOWS not in made.config
    assert made.config["sliding_window"] == made.window == 32


def test_a_length_beyond_which_the_model_changes_is_no_window() -> None:
    made = run(of("qwen"))
    assert ATTENTION_WINDOWS not in made.config
    assert made.window is None
    assert made.longest_tokens == 64
    assert made.ledger["seq_length"]["use"] == "limits the sequence length"


@pytest.mark.parametrize("window", [0, -1, "4096", True, 1.5])
@pytest.mark.parametrize("config", [MISTRAL, of("gemma2"), of("qwen2", **QWEN)])
def test_a_window_that_makes_no_sense(config: dict[str, Any], window: Any) -> None:
    assert "`sliding_window` is" in told(refused({**config, "sliding_window": window}))


@pytest.mark.parametrize("config", [of("gemma2"), of("gemma3"), of("qwen2", **QWEN)])
def test_a_window_that_must_be_there(config: dict[str, Any]) -> None:
    assert "`sliding_window` is `None`" in told(refused({**config, "sliding_window": None}))


@pytest.mark.parametrize(
    "layer_types", [[FULL], [FULL, FULL, "chunked_attention"], [FULL, SLIDING, None]]
)
def test_types_of_layers_that_nobody_knows(layer_types: list[Any]) -> None:
    for config in (of("gemma2"), of("qwen2", **QWEN)):
        error = refused({**config, "layer_types": layer_types})
        assert "`layer_types` does not have" in told(error)


def test_qwen_layers_with_a_window_need_one() -> None:
    error = refused(of("qwen2", layer_types=[FULL, SLIDING, FULL]))
    assert "but `use_sliding_window` is not true" in told(error)


def test_experts_of_qwen_have_no_window() -> None:
    """Two readings of `max_window_layers` are around for them."""
    with pytest.raises(RecipeError, match="`use_sliding_window` is `True`"):
        run(of("qwen2moe", use_sliding_window=True))


def test_windows_are_facts_of_their_own() -> None:
    made: Translation = run(MISTRAL)
    assert made.facts[ATTENTION_WINDOWS] == made.config[ATTENTION_WINDOWS]
