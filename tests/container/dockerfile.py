"""Reads a Dockerfile: instructions with their stages, continuation lines joined."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; `stage` is the name of its stage, or its image; empty before the first."""

    stage: str
    word: str
    text: str


def read_dockerfile(path: Path = ROOT / "Dockerfile") -> list[Instruction]:
    """All instructions in order; comments are left out."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    logical = re.sub(r"\\\n\s*", "", "\n".join(lines))
    instructions, stage = [], ""
    for line in logical.splitlines():
        if not line.strip():
            continue
        word, _, text = line.partition(" ")
        if word == "FROM":
            stage = text.rpartition(" AS ")[2]
        instructions.append(Instruction(stage, word, text.strip()))
    return instructions
