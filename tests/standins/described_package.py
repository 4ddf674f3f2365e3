"""A package `tensorrt_llm` to be looked at: the classes and the help text that the facts describe.

    described = write_described_package(folder)              # as the facts say
    write_described_package(folder, change)                  # `change(facts)` edits a copy of them

It cannot build or generate anything; `described.environment()` puts it in front of PATH and
PYTHONPATH. Its modules are those of TensorRT-LLM 1.2 whose names `doctor` reads.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact import Json
from pipeline.trtllm.facts import facts

ROOT = Path(__file__).parent.parent.parent

MODULES = {
    "builder": ("BuildConfig",),
    "plugin/plugin": ("PluginConfig",),
    "models/__init__": ("MODEL_MAP",),
    "models/modeling_utils": ("PretrainedConfig", "QuantConfig"),
    "mapping": ("Mapping",),
    "quantization/mode": ("QuantAlgo",),
    "llmapi/llm_args": ("TrtLlmArgs", "KvCacheConfig"),
    "sampling_params": ("SamplingParams",),
}
"""Module -> the names that it must have."""

_MODULE = """from tests.standins.described_classes import make
{names} = (make({folder!r}, name) for name in {quoted!r})
"""

_PROGRAM = """#!{python}
import sys
sys.path[:0] = [{root!r}]
from tests.standins.described_classes import main
main({folder!r})
"""


@dataclass(frozen=True)
class Described:
    """Where it lies. `site` is for the path of Python, `bin` for that of programs."""

    folder: Path
    site: Path
    bin: Path

    def environment(self) -> dict[str, str]:
        """Variables of a child that finds it before all others."""
        paths = [str(self.site), str(ROOT)]
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        return {"PYTHONPATH": os.pathsep.join(paths), "PATH": path}


def write_described_package(
    folder: Path, change: Callable[[Json], object] | None = None, version: str = "1.2.1"
) -> Described:
    """Write package, metadata and `trtllm-build` below a folder."""
    described = Described(folder, folder / "site", folder / "bin")
    package = described.site / "tensorrt_llm"
    package.mkdir(parents=True)
    described.bin.mkdir()
    (package / "__init__.py").write_text("print('[TensorRT-LLM] chatter on stdout')\n")
    add_descriptions(folder, change)
    _write_metadata(described.site, "tensorrt-llm", version)
    program = described.bin / "trtllm-build"
    program.write_text(_PROGRAM.format(python=sys.executable, root=str(ROOT), folder=str(folder)))
    program.chmod(0o755)
    return described


def add_descriptions(folder: Path, change: Callable[[Json], object] | None = None) -> None:
    """Put the described modules into the package `tensorrt_llm` in `site/`; it keeps what it has.

    So a stand-in machine with the stand-in `LLM` can be examined too.
    """
    document = deepcopy(facts())
    if change is not None:
        change(document)
    (folder / "described.json").write_text(json.dumps(document))
    package = folder / "site" / "tensorrt_llm"
    for module, names in MODULES.items():
        path = package / f"{module}.py"
        _make_package(path.parent)
        targets = ", ".join(names) + ","
        path.write_text(_MODULE.format(names=targets, folder=str(folder), quoted=names))


def _make_package(folder: Path) -> None:
    """A folder with `__init__.py`; a module of that name becomes it."""
    if (folder / "__init__.py").exists():
        return
    folder.mkdir()
    module = folder.with_suffix(".py")
    if module.exists():
        module.rename(folder / "__init__.py")
    else:
        (folder / "__init__.py").touch()


def _write_metadata(site: Path, name: str, version: str) -> None:
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
