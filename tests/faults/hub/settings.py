"""States of a hub before a run: who may see the repo, how it is served, what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.faults.hub.bombs import HOSTILE_HEADS
from tests.faults.hub.catalogue import HARMLESS, HEALS, OPEN
from tests.faults.hub.content import WEIGHTS, repo_files
from tests.hub_emulator import HubEmulator
from tests.tiny_source import REPO

FAILS = "fails"
"""The run cannot succeed."""

PLAIN, ABSENT, RENAMED = "plain", "hub not there", "renamed"
XET = "xet storage without a server"
"""The token for it is refused (HTTP 500): plain HTTP must do."""

Setting = Callable[[HubEmulator], None]


def _repo(**options: Any) -> Setting:
    def change(hub: HubEmulator) -> None:
        repo = replace(hub.repos[REPO], **options)
        hub.repos[REPO] = hub.history[repo.commit] = repo

    return change


def _attributes(**values: Any) -> Setting:
    def change(hub: HubEmulator) -> None:
        for name, value in values.items():
            setattr(hub, name, value)

    return change


def _rename(hub: HubEmulator) -> None:
    hub.repos["acme/new"] = hub.repos.pop(REPO)
    hub.renamed[REPO] = "acme/new"


def _hostile(content: bytes) -> Setting:
    return lambda hub: _ignore(hub.add(REPO, {**repo_files(), WEIGHTS[1]: content}))


def _ignore(_: object) -> None:
    """Nothing is to be done, or with this value."""


SETTINGS: dict[str, tuple[str, Setting]] = {
    PLAIN: (HARMLESS, _ignore),
    "gated, with a token": (HARMLESS, _repo(gated=True)),
    "private, with a token": (HARMLESS, _repo(private=True)),
    "redirects within the hub": (HARMLESS, _repo(cached_resolve=True)),
    XET: (HARMLESS, _repo(xet=True)),
    "links that work once": (HEALS, _attributes(link_uses=1)),
    RENAMED: (OPEN, _rename),
    "gated, not granted": (FAILS, _repo(gated="strict")),
    "disabled": (FAILS, _repo(disabled=True)),
    "another token": (FAILS, _attributes(token="hf_" + "other" * 7)),
    "missing": (FAILS, lambda hub: hub.repos.clear()),
    ABSENT: (FAILS, _ignore),
    **{name: (FAILS, _hostile(content)) for name, content in HOSTILE_HEADS.items()},
}
"""What is asked of the outcome, and how the hub becomes so."""

TOLD = {
    RENAMED: "acme/new",
    "gated, not granted": "accept its terms",
    "disabled": "is disabled",
    "another token": "`HF_TOKEN`",
    "missing": "does not exist, or is private",
    ABSENT: "cannot be reached",
}
"""What the error, with its hint, says of some of them."""
