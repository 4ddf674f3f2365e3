"""A translation in the making: what config rules have read, set and found at fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.artifact import Json


@dataclass
class Draft:
    """`facts` are what is known of the target, `ledger` the use of every key of the source.

    `proven`: keys that may have any value, because what they change is compared by execution.
    """

    source: Mapping[str, Json]
    facts: dict[str, Json] = field(default_factory=dict)
    ledger: dict[str, Json] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    proven: frozenset[str] = frozenset()

    def set(self, target: str, value: Json) -> None:
        """Set a fact; `moe.top_k` is a key of the object `moe`."""
        whole, dot, key = target.partition(".")
        if dot:
            self.facts[whole][key] = value
        else:
            self.facts[whole] = value

    def note(self, keys: Sequence[str], entry: Mapping[str, Json]) -> None:
        """Say what becomes of keys that are there; what was said first stays."""
        for key in keys:
            if key in self.source:
                self.ledger.setdefault(key, dict(entry))
