"""What a campaign counted, and what it found wrong."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

SHOWN = 40
"""Violations that are printed in full at the end."""


@dataclass(slots=True)
class Tally:
    """Counts by name, and violations, each with what is needed to see it again."""

    name: str
    seed: int
    lane: int = 0
    """Campaigns that are played side by side have one seed, and other chances each."""
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def chance(self) -> random.Random:
        """The chances of this lane."""
        return random.Random(f"{self.seed}/{self.lane}")

    def count(self, what: str, number: int = 1) -> None:
        """One more of these."""
        self.counts[what] += number

    def violated(self, where: str, found: list[str]) -> None:
        """Remember what was found wrong, and say so at once."""
        for each in found:
            self.violations.append(f"{where}: {each}")
            sys.stderr.write(
                f"VIOLATION {self.name} seed {self.seed} lane {self.lane}, {where}: {each}\n"
            )
            sys.stderr.flush()

    def skip(self, what: str, why: str) -> None:
        """Something cannot be tried on this machine."""
        self.skipped.append(f"{what} skipped: {why}")

    def told(self) -> str:
        """One line of counts, and a line for all that was skipped or is wrong."""
        counts = ", ".join(f"{number} {what}" for what, number in sorted(self.counts.items()))
        seconds = time.monotonic() - self.started
        wrong = len(self.violations)
        lines = [f"{self.name}: {counts}; {wrong} violations (seed {self.seed}, {seconds:.0f} s)"]
        lines += [f"  {each}" for each in self.skipped]
        lines += [f"  WRONG {each}" for each in self.violations[:SHOWN]]
        return "\n".join(lines)
