"""What is installed here: packages by what they are for, programs, and whether a token is set."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from pipeline import __version__
from pipeline.artifact import Json

DISTRIBUTION = "trtllm-pack"
CORE = "core"

PROGRAMS = {
    "trtllm-build": "builds engines of the backend `trtllm`",
    "mpirun": "starts the ranks of an engine that has several",
    "nvidia-smi": "tells the GPUs",
    "nsys": "watches which kernels run in an engine that has several ranks",
    "tritonserver": "serves a Triton model repository; nothing here needs it",
}
"""Program -> what it is for."""

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")

_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(.*)$")
_EXTRA = re.compile(r"""extra == ['"]([^'"]+)['"]""")


def python_facts() -> dict[str, Json]:
    """The interpreter, and this package."""
    return {
        "trtllm_pack": __version__,
        "python": sys.version.split()[0],
        "executable": sys.executable,
    }


def package_facts() -> dict[str, Json]:
    """Extra -> package -> installed version, None where it is missing; `core` is always needed.

    They are those that this package's own metadata names; `dev` is for its tests.
    """
    found: dict[str, dict[str, str | None]] = {}
    try:
        requirements = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        requirements = []  # it runs from a folder of sources
    for text in requirements:
        requirement, _, marker = text.partition(";")
        match, extra = _REQUIREMENT.match(requirement.strip()), _EXTRA.search(marker)
        if match is not None:
            name = extra.group(1) if extra else CORE
            found.setdefault(name, {})[match.group(1)] = installed_version(match.group(1))
    found.pop("dev", None)
    return {extra: dict(sorted(packages.items())) for extra, packages in found.items()}


def program_facts() -> dict[str, Json]:
    """Program -> its path, None where it is not on the PATH."""
    return {name: shutil.which(name) for name in PROGRAMS}


def token_facts() -> dict[str, Json]:
    """Whether a token of the Hugging Face Hub is set, and where; never the token itself."""
    for name in TOKEN_VARIABLES:
        if os.environ.get(name, "").strip():
            return {"present": True, "from": name}
    path = _token_file()
    present = path.is_file() and path.stat().st_size > 0
    return {"present": present, "from": str(path) if present else None}


def modelscope_facts() -> dict[str, Json]:
    """The same of ModelScope, whose own client keeps its login where only itself reads it."""
    name = "MODELSCOPE_API_TOKEN"
    present = bool(os.environ.get(name, "").strip())
    return {"present": present, "from": name if present else None}


def installed_version(name: str) -> str | None:
    """The version of a distribution, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _token_file() -> Path:
    """Where `hf auth login` puts it (huggingface_hub 1.x, `constants.py`)."""
    if "HF_TOKEN_PATH" in os.environ:
        return Path(os.environ["HF_TOKEN_PATH"]).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("HF_HOME", f"{cache}/huggingface")).expanduser() / "token"
