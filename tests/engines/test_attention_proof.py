"""The attention proof: three answers, whole or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.attention_proof import (
    PROOF_NAME,
    check_proof,
    not_observed,
    proof,
    read_proof,
    write_proof,
)
from pipeline.errors import VerificationError
from pipeline.recipe.schema import Attention

REQUIRED = Attention()
FREE = Attention(context_fmha=False, require_fused=False)


def built(status: str = "fused", sites: int = 4, layers: int = 4) -> dict[str, Any]:
    return {
        "status": status,
        "attention_sites": sites,
        "attention_layers": layers,
        "evidence": "the builder said so",
    }


def test_a_proof_is_read_as_it_was_written(tmp_path: Path) -> None:
    document = proof(REQUIRED, built(), not_observed("no GPU is here"))
    write_proof(tmp_path, document)
    assert read_proof(tmp_path) == document
    assert document["requested"] == {"context_fmha": True, "require_fused": True}
    assert document["observed"] == {"status": "not observed", "reason": "no GPU is here"}


def test_a_whole_proof_passes() -> None:
    check_proof(proof(REQUIRED, built(), not_observed("")), REQUIRED)


@pytest.mark.parametrize(
    "answer",
    [built("unfused"), built("unknown"), built(layers=3), built(sites=5)],
    ids=["unfused", "unknown", "fewer layers", "more sites"],
)
def test_what_is_not_proved_is_refused_where_it_is_required(answer: dict[str, Any]) -> None:
    document = proof(REQUIRED, answer, not_observed(""))
    with pytest.raises(VerificationError, match="require_fused") as caught:
        check_proof(document, REQUIRED)
    assert caught.value.facts == ("the builder said so",)
    check_proof(document, FREE)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"built": {}, "observed": {}}', '{"built": 1, "observed": {"status": ""}}'],
)
def test_what_is_no_proof_is_said_so(tmp_path: Path, text: str) -> None:
    (tmp_path / PROOF_NAME).write_text(text)
    with pytest.raises(VerificationError, match="not an attention proof"):
        read_proof(tmp_path)


def test_a_missing_proof_or_unknown_status_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="not an attention proof"):
        read_proof(tmp_path)
    (tmp_path / PROOF_NAME).write_text('{"built": {"status": "fine"}, "observed": {"status": ""}}')
    with pytest.raises(VerificationError, match="`fine`"):
        read_proof(tmp_path)
