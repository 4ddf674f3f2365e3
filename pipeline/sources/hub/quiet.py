"""The hub client as we have it while we use it: silent, and in pieces of our size."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

from pipeline.sources.hub.line import http_library

CHUNK_BYTES = {"httpx": 64 << 10, "requests": 1 << 20}
"""In what pieces the client is to write, by its HTTP library. Its own 10 MB hide for long that
little comes, and cost a third of the speed (httpx; measured on loopback)."""


@contextmanager
def quiet() -> Iterator[None]:
    """No bars, warnings or log lines of the client: what matters reaches the user through us.

    For the one thread that others work for. Meanwhile the client also writes in pieces of our size,
    and does not ask who called it (its 2.x asks its own endpoint for a list of programs, even where
    a mirror is named, or nothing is to be asked).
    """
    from huggingface_hub import constants, logging
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    bars, verbosity = not are_progress_bars_disabled(), logging.get_verbosity()
    ours = {
        "DOWNLOAD_CHUNK_SIZE": CHUNK_BYTES[http_library()],
        "HF_HUB_DISABLE_TELEMETRY": True,
    }
    with warnings.catch_warnings(), _constants(constants, ours):
        warnings.simplefilter("ignore")
        if bars:
            disable_progress_bars()
        if "HF_HUB_VERBOSITY" not in os.environ and not os.environ.get("HF_DEBUG"):
            logging.set_verbosity_error()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                enable_progress_bars()


@contextmanager
def _constants(module: ModuleType, values: Mapping[str, object]) -> Iterator[None]:
    """Other settings of the client for a while."""
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)
