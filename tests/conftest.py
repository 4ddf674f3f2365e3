"""Settings of all tests, and the store that most of those of the runner and the store need."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pipeline.store import Store

# A loaded machine is slow, not wrong; and a red run must be red again for whoever looks into it.
settings.register_profile(
    "project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store, on the disk of the test's folder."""
    return Store(tmp_path / "store")
