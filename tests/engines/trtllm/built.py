"""An engine folder that the stand-in has built once, to be spoilt in copies."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.engines.trtllm.after_build import check_engine
from pipeline.engines.trtllm.follow import BuildLog
from pipeline.engines.trtllm.request import BuildRequest, build_request
from pipeline.progress import Silent
from pipeline.trtllm.table import RULES
from tests.engines.trtllm.building import build, checkpoint, settings
from tests.standins import Standin

WHOLE = "[11/25/2026-17:00:00] [TRT-LLM] [I] Total time of building all engines: 00:00:12"


@dataclass
class Built:
    """An engine folder of two ranks, as the stand-in left it, and what was asked."""

    folder: Path
    source: TrtllmCheckpoint
    request: BuildRequest

    def check(self, log: BuildLog | None = None, installed: str = "1.2.1") -> Any:
        log = log or log_of(Path(tempfile.mkdtemp(dir=self.folder.parent)) / "log", WHOLE)
        return check_engine(
            *(self.folder, self.source, self.request, log), installed=installed, rules=RULES
        )

    def change(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change config.json by a function."""
        path = self.folder / "config.json"
        document = json.loads(path.read_bytes())
        change(document)
        path.write_text(json.dumps(document))


def log_of(folder: Path, *lines: str, stop: bool = False) -> BuildLog:
    log = BuildLog(folder, 2, is_in_turn=True, progress=Silent(), stop_at_fallback=stop)
    with log.open():
        for line in lines:
            log.line("stderr", line)
    return log


def built_once(factory: pytest.TempPathFactory) -> tuple[TrtllmCheckpoint, Mapping[str, bytes]]:
    """A checkpoint of two ranks, and the files of its engine as TensorRT-LLM leaves them."""
    return _built_in(factory.getbasetemp() / "built-once")


@cache
def _built_in(folder: Path) -> tuple[TrtllmCheckpoint, Mapping[str, bytes]]:
    folder.mkdir()
    source = checkpoint(folder / "checkpoint", tp_size=2)
    with pytest.MonkeyPatch.context() as patch:
        Standin(folder / "machine").use(patch)
        build(source, folder / "out")
    names = ("config.json", "rank0.engine", "rank1.engine")
    return source, {name: (folder / "out" / name).read_bytes() for name in names}


def copy_of_built(factory: pytest.TempPathFactory, folder: Path) -> Built:
    """A copy of it that may be changed."""
    source, files = built_once(factory)
    engine = folder / "engine"
    engine.mkdir()
    for name, data in files.items():
        (engine / name).write_bytes(data)
    return Built(engine, source, build_request(settings(), source.config))
