"""The record of compared logits, told in one line, in a table, and in a release."""

from __future__ import annotations

from typing import Any

from pipeline.parity.record import logits_fields, logits_text
from pipeline.release.readme import _parity

RECORD: dict[str, Any] = {
    "layers": 2,
    "of_layers": 4,
    "reference": {
        "backend": "transformers",
        "version": "5.24.0",
        "torch": "2.13.0",
        "class": "LlamaForCausalLM",
        "dtype": "float32",
    },
    "executed_by": {"backend": "onnxruntime", "version": "1.32.0", "device": "cpu"},
    "prefill": {
        "positions": 80,
        "min_cosine": 0.9999998,
        "max_norm_error": 2e-07,
        "max_relative_error": 3e-06,
    },
    "decoding": {
        "positions": 16,
        "min_cosine": 1.0,
        "max_norm_error": 4e-07,
        "max_relative_error": 1e-06,
    },
}


def test_the_line_has_the_worst_of_both_phases() -> None:
    assert logits_text(RECORD) == (
        "logits of the first 2 layers as transformers 5.24.0 gives them at 80 positions: "
        "cosine 0.9999998, norms off by 4e-07, relative error 3e-06 at most"
    )
    assert logits_text({**RECORD, "layers": 4}).startswith("logits as transformers 5.24.0 gives")
    assert logits_text({**RECORD, "layers": 1}).startswith("logits of the first layer as ")


def test_the_table_has_a_row_for_each_side_and_phase() -> None:
    assert logits_fields(RECORD) == {
        "source": "LlamaForCausalLM of transformers 5.24.0, torch 2.13.0, float32",
        "converted": "onnxruntime 1.32.0 on cpu, 2 of 4 layers",
        "prefill": "cosine 0.9999998, norms off by 2e-07, relative error 3e-06 at worst, "
        "of 80 positions",
        "decoding": "cosine 1, norms off by 4e-07, relative error 1e-06 at worst, of 16 positions",
    }


def test_a_release_says_it_only_where_logits_were_compared() -> None:
    plain = "the comparison of the converted weights with the source"
    assert _parity({"structure": {}}) == plain
    assert _parity({"logits": RECORD}) == f"{plain}; {logits_text(RECORD)}"
