"""One case: a hub in some state, and up to three faults over the requests of a run."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.faults.hub.catalogue import BY_NAME, HARMLESS, HEALS, KINDS, OPEN, Kind
from tests.faults.hub.content import LARGE, SMALL, WEIGHTS
from tests.faults.hub.settings import ABSENT, FAILS, PLAIN, SETTINGS
from tests.hub_emulator import Fault, HubEmulator, ServerName
from tests.tiny_source import REPO

TOKEN = "hf_" + "canary" * 6
FOR_EVER = 10**9
LARGE_ONE, SMALL_ONE, LISTING = "<a large file>", "<a small file>", "/api/models/"
AT_FILES: tuple[tuple[ServerName, str, str], ...] = (
    ("hub", SMALL_ONE, ""), ("hub", SMALL_ONE, "GET"), ("hub", SMALL_ONE, "HEAD"),
    ("hub", LARGE_ONE, ""), ("hub", LARGE_ONE, "GET"), ("hub", LARGE_ONE, "HEAD"),
    ("cdn", LARGE_ONE, "GET"), ("cdn", LARGE_ONE, "GET"), ("cdn", "", ""), ("hub", "/resolve/", ""),
)  # fmt: skip
AT_LISTING: tuple[tuple[ServerName, str, str], ...] = (("hub", LISTING, "GET"),)
PLACES = {"files": AT_FILES, "listing": AT_LISTING, "all": (*AT_FILES, *AT_LISTING * 3)}

COMMANDS = 0.2
"""Share of cases that run the command itself."""

FEW = 3
"""Faults that heal may happen so often in a case before success is no longer asked for."""


@dataclass(frozen=True)
class Case:
    """What happens. `faults` are not yet used up: `Fault` counts down."""

    number: int
    setting: str
    revision: str | None
    kinds: tuple[Kind, ...]
    faults: tuple[Fault, ...]
    healing: int
    """How often faults happen that heal."""

    command: bool
    """Through the command line, not by our functions."""

    plays: tuple[str, ...]
    """What the faults do, in words."""

    def describe(self) -> str:
        """For the report of a case that went wrong."""
        pinned = "commit" if self.revision else "branch"
        pinned += ", by command" if self.command else ""
        return (
            f"case {self.number}: {self.setting}, {pinned}; {'; '.join(self.plays) or 'no fault'}"
        )

    @property
    def promise(self) -> str:
        """What is asked of the outcome of the first run."""
        own = SETTINGS[self.setting][0]
        if own in {FAILS, OPEN} or any(kind.promise == OPEN for kind in self.kinds):
            return OPEN if self.faults else own
        return HARMLESS if self.healing <= FEW else OPEN


def draw(seed: int, number: int, hub: HubEmulator, *, slow_share: float) -> Case:
    """The case of this number; it is the same for every hub.

    The first ones are the settings one by one, without any fault. The kinds of faults take turns,
    so that a few hundred cases have them all.
    """
    rng = Random(f"{seed} {number}")
    settings = list(SETTINGS)
    if number < len(settings):
        return _case(number, settings[number], rng, hub, ())
    setting = PLAIN if rng.random() < 0.85 else rng.choice(settings)
    if SETTINGS[setting][0] == FAILS:
        return _case(number, setting, rng, hub, ())
    gentle = rng.random() < 0.5
    chosen = [k for k in KINDS if not (gentle and k.promise == OPEN)]
    quick, slow = [k for k in chosen if not k.slow], [k for k in chosen if k.slow]
    first = rng.choice(slow) if rng.random() < slow_share else quick[number % len(quick)]
    kinds = [first, *(rng.choice(quick) for _ in range(rng.choice([0, 0, 1, 2])))]
    faults = tuple(f for kind in kinds for f in _place(kind, rng, hub, gentle=gentle))
    return _case(number, setting, rng, hub, faults)


def _case(
    number: int, setting: str, rng: Random, hub: HubEmulator, faults: tuple[Fault, ...]
) -> Case:
    """The rest of a case: branch or commit, by function or by command."""
    kinds = tuple(BY_NAME[fault.name] for fault in faults)
    pinned = setting == PLAIN and rng.random() < 0.3
    commit = hub.repos[REPO].commit if pinned else None
    healing = sum(f.times for k, f in zip(kinds, faults, strict=True) if k.promise == HEALS)
    command = setting != ABSENT and rng.random() < COMMANDS
    words = tuple(map(_shown, faults))
    return Case(number, setting, commit, kinds, faults, healing, command, words)


def _place(kind: Kind, rng: Random, hub: HubEmulator, *, gentle: bool) -> list[Fault]:
    """A fault of this kind at some requests, and before it what makes these requests happen."""
    server, part, method = rng.choice(PLACES[kind.where])
    if part == LARGE_ONE:
        # A large file outside the weights is asked for once: by HEAD here, by GET at the CDN.
        part = f"/{rng.choice(WEIGHTS if (server, method) == ('hub', 'GET') else LARGE)}"
    elif part == SMALL_ONE:
        part = f"/{rng.choice(SMALL)}"
    times = rng.choice([1, 1, 2] if gentle and kind.promise == HEALS else [1, 1, 2, 5, FOR_EVER])
    fields = kind.make(rng, hub)
    if fields.get("on_resume"):
        first = Fault("cdn", f"/{WEIGHTS[0]}", "GET", 1, 1, name="body cut", cut_at=50_000)
        return [first, Fault("cdn", f"/{WEIGHTS[0]}", "GET", times, name=kind.name, **fields)]
    often = part in {"", "/resolve/"} or (server == "cdn" and "model" in part)
    skip = rng.choice([0, 0, 0, 1, 1, 2]) if often else 0
    return [Fault(server, part, kind.method or method, times, skip, name=kind.name, **fields)]


def _shown(fault: Fault) -> str:
    """Where it is, and the fields that say what it does."""
    plain = Fault(fault.server)
    left_out = {"server", "path_part", "method", "times", "skip", "name", "hits"}
    changed = [
        f"{name}={str(value)[:80]!r}"
        for name, value in vars(fault).items()
        if name not in left_out and value != getattr(plain, name)
    ]
    where = f"{fault.server} {fault.method or '*'} {fault.path_part!r}"
    return f"{fault.name!r} ({where} x{fault.times} after {fault.skip}: {', '.join(changed)})"
