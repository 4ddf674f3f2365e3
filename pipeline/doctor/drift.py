"""Drift: where the installed TensorRT-LLM is otherwise than the facts that this project rests on.

Pure data in, pure data out: `pipeline.doctor.installed` reads, this compares.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from pipeline.artifact import Json

Severity = Literal["harmless", "matters"]
"""`harmless`: nothing that a recipe asks comes out otherwise. `matters`: something may."""

Section = Mapping[str, Mapping[str, Json]]

SEND = "send the file that `trtllm-pack doctor --write-facts FILE` writes with a report"

UNSETTLED = ("prototype", "beta", "deprecated")
"""Marks of arguments that come and go between releases; this project uses none of them."""

OFF: tuple[Json, ...] = (None, False, 0, -1, "", [], {}, "disable", "None", "False", "0")
"""Defaults of an option that does nothing until it is set."""

TITLES: Mapping[str, str] = {
    "build_config": "field of BuildConfig",
    "plugin_config": "field of PluginConfig",
    "trtllm_build": "flag of trtllm-build",
    "architectures": "architecture of MODEL_MAP",
    "checkpoint_config": "key of PretrainedConfig",
    "mapping": "parameter of Mapping",
    "quant_config": "key of QuantConfig",
    "quant_algos": "value of QuantAlgo",
    "llm_arguments": "argument of LLM",
    "kv_cache_config": "field of KvCacheConfig",
    "sampling_params": "field of SamplingParams",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. `aspect`: `gone`, `new`, or what of it differs (`default`, `values`, ...).

    For `values`, `expected` and `found` hold only those that are gone and those that are new.
    """

    section: str
    name: str
    aspect: str
    severity: Severity
    expected: Json
    found: Json
    message: str
    todo: str

    def document(self) -> dict[str, Json]:
        """For `--json`."""
        return asdict(self)


def find_drift(
    expected: Mapping[str, Section], installed: Mapping[str, Section]
) -> list[Difference]:
    """Every difference, what matters first; a section that was not read is passed by."""
    found = [
        difference
        for section, known in expected.items()
        if section in installed and known
        for difference in _compare_section(section, known, installed[section])
    ]
    return sorted(found, key=lambda difference: difference.severity != "matters")


def _compare_section(section: str, known: Section, installed: Section) -> Iterator[Difference]:
    aliases = {
        alias
        for fact in [*known.values(), *installed.values()]
        for alias in fact.get("aliases", ())
    }
    for name, fact in known.items():
        if name not in installed:
            yield _gone(section, name, fact)
        else:
            yield from _compare(section, name, fact, installed[name])
    for name in installed:
        if name not in known and name not in aliases:
            yield _new(section, name, installed[name])


def _compare(
    section: str, name: str, known: Mapping[str, Json], found: Mapping[str, Json]
) -> Iterator[Difference]:
    for aspect in ("type", "class", "takes", "required", "default"):
        before, now = known.get(aspect), found.get(aspect)
        told = aspect in known and aspect in found
        if aspect == "default" and (known.get("required") or found.get("required")):
            continue  # there is none
        if told and not _same(aspect, before, now):
            yield _changed(section, name, aspect, before, now)
    if known.get("values") and found.get("values"):
        yield from _compare_values(section, name, known["values"], found["values"])
    for alias in known.get("aliases", ()):
        if "aliases" in found and alias not in found["aliases"]:
            yield _gone(section, alias, {})


def _same(aspect: str, before: Json, now: Json) -> bool:
    if aspect == "type" and (before is None or now is None):
        return True  # a literal on one side; its values are compared
    # Typing's names differ by the Python that runs (`List`, `list`), and an enumeration's member by
    # where it is printed (`NONE`, `None`).
    return _key(before).lower() == _key(now).lower()


def _compare_values(
    section: str, name: str, before: Sequence[Json], now: Sequence[Json]
) -> Iterator[Difference]:
    """One difference for the values that are gone, one for the new ones."""
    old, new = {_key(value) for value in before}, {_key(value) for value in now}
    gone = [value for value in before if _key(value) not in new]
    added = [value for value in now if _key(value) not in old]
    what = f"{TITLES[section]} `{name}`"
    if gone:
        yield Difference(
            section,
            name,
            "values",
            "matters",
            gone,
            [],
            f"{what} no longer takes {_listed(gone)}",
            f"use another value in recipes built here, and {SEND}",
        )
    if added:
        message = f"{what} also takes {_listed(added)}"
        yield Difference(
            section, name, "values", "harmless", [], added, message, "nothing: no recipe can ask it"
        )


def _gone(section: str, name: str, fact: Mapping[str, Json]) -> Difference:
    unsettled = fact.get("status") in UNSETTLED
    todo = f"leave what needs it out of recipes built here, and {SEND}"
    return Difference(
        section,
        name,
        "gone",
        "harmless" if unsettled else "matters",
        dict(fact),
        None,
        f"{TITLES[section]} `{name}` is gone",
        f"nothing: it was marked `{fact['status']}`" if unsettled else todo,
    )


def _new(section: str, name: str, fact: Mapping[str, Json]) -> Difference:
    default = fact.get("default")
    is_off = any(_key(default) == _key(value) for value in OFF)
    # An alternative that is added to a list of names does nothing by itself.
    harmless = section in {"architectures", "quant_algos"} or (is_off and not fact.get("required"))
    if fact.get("required"):
        suffix = ", and must be given"
    else:
        suffix = "" if harmless else f", with the default {_listed([default])}"
    idle = "nothing: it is off unless it is asked for"
    todo = idle if harmless else f"compare a result, and {SEND}"
    return Difference(
        section,
        name,
        "new",
        "harmless" if harmless else "matters",
        None,
        dict(fact),
        f"{TITLES[section]} `{name}` is new{suffix}",
        todo,
    )


def _changed(section: str, name: str, aspect: str, before: Json, now: Json) -> Difference:
    words = {"class": "becomes another class", "takes": "takes other arguments"}
    told = words.get(aspect, f"has another {aspect}")
    if aspect == "required":
        told = "must be given" if now else "need not be given any more"
    matters = aspect != "required" or bool(now)
    todo = f"set it in recipes built here, and {SEND}" if aspect == "default" else SEND
    return Difference(
        section,
        name,
        aspect,
        "matters" if matters else "harmless",
        before,
        now,
        f"{TITLES[section]} `{name}` {told}: {_listed([now])}, not {_listed([before])}",
        todo if matters else "nothing: it is always given",
    )


def _key(value: Json) -> str:
    return json.dumps(value, sort_keys=True)


def _listed(values: Sequence[Json]) -> str:
    return ", ".join(f"`{v}`" if isinstance(v, str) else f"`{json.dumps(v)}`" for v in values)
