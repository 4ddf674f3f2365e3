"""`docs/rules.md` is what the table of rules says.

`TRTLLM_PACK_STORE_EXPECTED=1` writes it anew.
"""

from __future__ import annotations

import os

from pipeline.trtllm.table import RULES
from tests.command import ROOT
from tests.trtllm.rules_document import rules_document

PAGE = ROOT / "docs" / "rules.md"


def test_the_page_is_current() -> None:
    if os.environ.get("TRTLLM_PACK_STORE_EXPECTED"):
        PAGE.write_text(rules_document(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == rules_document()


def test_the_page_has_every_rule_in_one_row() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for rule in RULES:
        (row,) = [line for line in lines if line.startswith(f"| `{rule.name}` |")]
        assert row.count(" | ") == 4
