"""A folder that every user may enter, for tests that become another user; pytest's are closed."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PLACES = ("/tmp", "/var/tmp", "/dev/shm")
"""Where one may be made if the temporary folder of the moment lies in somebody's own."""


@contextmanager
def public_folder() -> Iterator[Path]:
    """A new one, which goes at the end; the test is skipped where there is no place for it."""
    places = [Path(place) for place in (tempfile.gettempdir(), *PLACES)]
    place = next((each for each in places if _is_open_to_all(each)), None)
    if place is None:
        pytest.skip("there is no temporary folder that other users may enter")
    folder = Path(tempfile.mkdtemp(prefix="public-", dir=place))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _is_open_to_all(place: Path) -> bool:
    if not os.access(place, os.W_OK):
        return False
    found = place.resolve()
    return all(each.stat().st_mode & stat.S_IXOTH for each in (found, *found.parents))
