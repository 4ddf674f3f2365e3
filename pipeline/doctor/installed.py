"""The installed TensorRT-LLM, read by child processes: Python, and `trtllm-build --help`."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import Any

from pipeline.artifact import Json
from pipeline.doctor.help_text import COLUMNS, read_help
from pipeline.engines.child_process import child_environment
from pipeline.engines.exit_codes import how_ended
from pipeline.engines.trtllm.environment import kept_variables, visible_devices
from pipeline.engines.trtllm.program import run_supervised
from pipeline.engines.trtllm.request import PROGRAM
from pipeline.errors import MachineError
from pipeline.files.scratch import scratch_folder

PACKAGE = "tensorrt_llm"
TIMEOUT_S = 300.0
"""Importing TensorRT-LLM imports torch and more: half a minute on a cold disk is usual."""

LAST_LINES = 5


@dataclass(frozen=True, slots=True)
class Installed:
    """What was read. `sections` as in `pipeline.doctor.sections`; `unread`: section -> why not."""

    versions: Mapping[str, str]
    sections: Mapping[str, Mapping[str, Mapping[str, Json]]]
    unread: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Json]:
        """For `doctor --write-facts`."""
        return asdict(self)


def read_installed(timeout_s: float = TIMEOUT_S) -> Installed | None:
    """Read the installed TensorRT-LLM; None where there is none. Nothing is imported here.

    It never raises for what the children do: a section that cannot be read says why.
    """
    if find_spec(PACKAGE) is None:
        return None
    module = [sys.executable, "-P", "-s", "-m", "pipeline.doctor.installed_facts"]
    output, why = _answer(module, timeout_s)
    try:
        document: dict[str, Any] = json.loads(output) if why is None else {}
    except ValueError:
        document, why = {}, f"its answer is no JSON: {output[:200]!r}"
    unread = dict(document.get("unread", {}))
    if why is not None:
        unread[PACKAGE] = why
    sections = dict(document.get("sections", {}))
    flags, why_no_flags = _read_flags(timeout_s)
    if why_no_flags is None:
        sections["trtllm_build"] = flags
    else:
        unread["trtllm_build"] = why_no_flags
    return Installed(document.get("versions", {}), sections, unread)


def _read_flags(timeout_s: float) -> tuple[dict[str, dict[str, Json]], str | None]:
    """Flag -> `takes`, `values`, `default`, `aliases`; or why they cannot be read."""
    program = shutil.which(PROGRAM)
    if program is None:
        return {}, f"`{PROGRAM}` is not on the PATH"
    output, why = _answer([program, "--help"], timeout_s)
    if why is not None:
        return {}, f"`{PROGRAM} --help`: {why}"
    flags = read_help(output)
    if not flags:
        return {}, f"`{PROGRAM} --help` lists no options"
    return {name: _flag_facts(asdict(flag)) for name, flag in flags.items()}, None


def _flag_facts(flag: dict[str, Any]) -> dict[str, Json]:
    """What is known of a flag; a default that is not printed is not known."""
    values = None if flag["values"] is None else list(flag["values"])
    known = {"takes": flag["takes"], "values": values, "aliases": list(flag["aliases"])}
    default = flag["default"]
    if default == "None" and values is not None and "disable" in values:
        default = "disable"  # TensorRT-LLM leaves `gemm_plugin` unset, which means the same
    return known if default is None else {**known, "default": default}


def _answer(line: list[str], timeout_s: float) -> tuple[str, str | None]:
    """What a program prints, and why it gave no answer. It and all that it starts are ended."""
    lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
    with scratch_folder() as folder:
        try:
            ended = run_supervised(
                line,
                _environment(),
                folder,
                timeout_s=timeout_s,
                on_line=lambda stream, said: lines[stream].append(said),
                is_temporary=True,
            )
        except MachineError as error:
            return "", f"it cannot be started: {error.message}"
    if ended.code is None:
        return "", f"no answer within {timeout_s:.0f} s"
    if ended.code != 0:
        return "", _death(ended.code, lines["stderr"])
    return "\n".join(lines["stdout"]), None


def _environment() -> dict[str, str]:
    """As a build's, but packages are found as here, and lines never break."""
    return {
        **kept_variables(os.environ),
        **visible_devices(),
        "COLUMNS": COLUMNS,
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": child_environment()["PYTHONPATH"],
    }


def _death(code: int, lines: list[str]) -> str:
    told = [line.strip() for line in lines][-LAST_LINES:]
    return "; ".join([f"it died with {how_ended(code)}", *told])
