"""Plays many cases, several at a time, and counts what came of them."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.hub.cases import draw
from tests.faults.hub.judging import violations
from tests.faults.hub.playing import Child, Played, forget, play, settle
from tests.hub_emulator import HubEmulator


@dataclass
class Tally:
    """Outcomes by fault, the largest of everything that is bounded, and what went wrong."""

    cases: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(fault or setting, outcome of the first run) -> cases."""

    largest: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, played: Played, faults: list[str]) -> None:
        """Add a case."""
        answer = played.first.answer
        with self.lock:
            self.cases += 1
            for kind, hits in zip(played.case.kinds, played.hits, strict=True):
                self.outcomes[kind.name, answer["kind"] if hits else "not reached"] += 1
            if not played.case.kinds:
                self.outcomes[played.case.setting, answer["kind"]] += 1
            for step in [played.first, *played.later]:
                self._enlarge(step.answer, len(step.requests))
                self._enlarge_requests([r.path.partition("?")[0] for r in step.requests])
            self.wrong += [f"{played.case.describe()}\n    {fault}" for fault in faults]

    def table(self) -> str:
        """The counts as text."""
        outcomes = sorted({outcome for _, outcome in self.outcomes})
        names = list(dict.fromkeys(name for name, _ in self.outcomes))
        width = max(map(len, names), default=0)
        lines = [f"{'':{width}} " + " ".join(f"{o:>17}" for o in outcomes)]
        for name in sorted(names):
            counts = (self.outcomes[name, outcome] for outcome in outcomes)
            lines.append(f"{name:{width}} " + " ".join(f"{count or '-':>17}" for count in counts))
        lines += [f"most {what}: {value:,.0f}" for what, value in sorted(self.largest.items())]
        lines.append(f"{self.cases} cases, {len(self.wrong)} violations")
        return "\n".join(lines)

    def _enlarge(self, answer: dict[str, float], num_requests: int) -> None:
        found = {
            "requests of a run": num_requests,
            "seconds by the fast clock": answer.get("elapsed_s", 0),
            "seconds in one sleep": answer.get("slept_s", 0),
            "kB of memory": answer.get("memory_kb", 0),
        }
        for what, value in found.items():
            self.largest[what] = max(self.largest.get(what, 0), value)

    def _enlarge_requests(self, paths: Iterable[str]) -> None:
        counts = Counter(path.rpartition("/")[2] for path in paths)
        what = "requests for a file"
        self.largest[what] = max(self.largest.get(what, 0), *counts.values(), 0)


def run(
    seed: int,
    numbers: Iterable[int],
    folder: Path,
    *,
    workers: int,
    slow_share: float = 0.1,
    tell: Callable[[str], None] = lambda _: None,
) -> Tally:
    """Play the cases of these numbers below a folder; cases that went wrong leave theirs there."""
    tally, waiting = Tally(), queue.SimpleQueue[int]()
    for number in numbers:
        waiting.put(number)

    def work() -> None:
        home = folder / f"home of {threading.current_thread().name}"
        with HubEmulator() as hub, Child(hub.endpoint, home) as child:
            while not waiting.empty():
                try:
                    number = waiting.get_nowait()
                except queue.Empty:
                    return
                settle(hub)
                case = draw(seed, number, hub, slow_share=slow_share)
                root = folder / str(number)
                forget(root)
                played = play(case, hub, child, root)
                faults = violations(played, hub)
                tally.count(played, faults)
                if faults:
                    tell(f"{case.describe()}\n    " + "\n    ".join(faults))
                else:
                    forget(root)

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work) for _ in range(workers)]:
            done.result()
    return tally
