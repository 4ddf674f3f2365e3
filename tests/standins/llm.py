"""Puts the stand-in package `tensorrt_llm` into a stand-in machine (`tests.standins.Standin`).

machine = Standin(folder)
install_llm(machine)
set_llm(machine, fail="out of memory")      # knobs, see `tests.standins.tensorrt_llm.control`
llm_calls(machine)                          # what LLM and its parts were given
"""

from __future__ import annotations

import json
from typing import Any

from tests.standins import Standin

_MODULES = {
    "__init__.py": ("tests.standins.tensorrt_llm.package", ("__version__",)),
    "_tensorrt_engine.py": ("tests.standins.tensorrt_llm.llm", ("LLM",)),
    "llmapi.py": ("tests.standins.tensorrt_llm.arguments", ("KvCacheConfig", "SamplingParams")),
}


def install_llm(machine: Standin) -> None:
    """Make `tensorrt_llm` importable where the machine's `site/` is on the path."""
    folder = machine.site / "tensorrt_llm"
    folder.mkdir(parents=True)
    for name, (module, exported) in _MODULES.items():
        lines = [
            "import os",
            f"os.environ['STANDIN_MACHINE'] = {str(machine.folder)!r}",
            f"from {module} import {', '.join(exported)}",
        ]
        (folder / name).write_text("\n".join(lines) + "\n")
    set_llm(machine)


def set_llm(machine: Standin, **knobs: Any) -> None:
    """Set the knobs of `LLM`; those that are not named are off."""
    (machine.folder / "llm.json").write_text(json.dumps(knobs))


def llm_calls(machine: Standin) -> list[dict[str, Any]]:
    """What `LLM` and `generate` were given so far, and their environment."""
    path = machine.folder / "llm-calls.jsonl"
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return [json.loads(line) for line in whole.splitlines()]
