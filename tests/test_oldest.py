"""The oldest set of packages (`make test-oldest`) is what pyproject.toml allows."""

from __future__ import annotations

import re

from tests.oldest import PYPROJECT, constraints


def test_every_dependency_is_pinned_at_its_lower_bound() -> None:
    text = PYPROJECT.read_text(encoding="utf-8")
    found = dict(line.split("==") for line in constraints(text))
    assert found["huggingface-hub"] == "0.36.2"
    assert found["numpy"] == "1.26.4"
    for name, version in found.items():
        if name not in {"huggingface-hub", "numpy"}:
            assert re.search(rf'^  "{name}>={version},', text, re.MULTILINE)
    assert len(found) > 10
    assert "huggingface-hub==0.34.0" in constraints(text, "0.34.0")
