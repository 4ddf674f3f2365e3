"""`python -m tests.oldest`: the oldest versions of what the package needs, as pip's constraints.

They are the lower bounds of pyproject.toml. Two are not installed as low as they go: of the hub's
client the newest release before 1.0 (what TensorRT-LLM 1.2.1 brings along) is meant, and of numpy
1.26 the patch release that everybody has. `HUB=0.34.0` asks for another client.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
BOUND = re.compile(r"(?P<name>[\w-]+)>=(?P<version>[\w.]+),")


def constraints(text: str, hub_version: str = "0.36.2") -> list[str]:
    """One exact version per core dependency."""
    chosen = {"huggingface-hub": hub_version, "numpy": "1.26.4"}
    lines = []
    for dependency in tomllib.loads(text)["project"]["dependencies"]:
        found = BOUND.match(dependency)
        assert found, f"{dependency} has no lower bound that is understood"
        name = found["name"]
        lines.append(f"{name}=={chosen.get(name, found['version'])}")
    return lines


if __name__ == "__main__":
    hub = os.environ.get("HUB", "0.36.2")
    sys.stdout.write("\n".join([*constraints(PYPROJECT.read_text(), hub), ""]))
