"""What is installed here: packages by what they are for, programs, and whether a token is set."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires

from pipeline import __version__
from pipeline.artifact import Json
from pipeline.installed import installed
from pipeline.redaction import token_files
from pipeline.sources.hub.settings import TOKENS

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
            name, package = extra.group(1) if extra else CORE, match.group(1)
            found.setdefault(name, {})[package] = installed([package]).get(package)
    found.pop("dev", None)
    return {extra: dict(sorted(packages.items())) for extra, packages in found.items()}


def program_facts() -> dict[str, Json]:
    """Program -> its path, None where it is not on the PATH."""
    return {name: shutil.which(name) for name in PROGRAMS}


def token_facts() -> dict[str, Json]:
    """Whether a token of the Hugging Face Hub is set, and where; never the token itself."""
    for name in TOKENS:
        if os.environ.get(name, "").strip():
            return {"present": True, "from": name}
    path = token_files(os.environ)[0]
    present = path.is_file() and path.stat().st_size > 0
    return {"present": present, "from": str(path) if present else None}


def modelscope_facts() -> dict[str, Json]:
    """The same of ModelScope, whose own client keeps its login where only itself reads it."""
    name = "MODELSCOPE_API_TOKEN"
    present = bool(os.environ.get(name, "").strip())
    return {"present": present, "from": name if present else None}
