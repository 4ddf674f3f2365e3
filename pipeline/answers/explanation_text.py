"""The answers of `explain` for people."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipeline.artifact import Json
from pipeline.console import fields
from pipeline.wording import counted

EFFECTS = {
    "refused": "TensorRT-LLM fails, or its result is wrong: always refused",
    "changed": "TensorRT-LLM sets an option otherwise than asked: always refused",
    "unmet": "the engine would be without what an option is for: always refused",
    "unfused": "attention runs without fused kernels: refused where `require_fused` is true",
    "ignored": "an option has no effect, or less than it promises: told",
}


def all_text(document: Mapping[str, Json]) -> str:
    """All options by group, one line each."""
    parts = []
    for group in document["groups"]:
        rows = {_key(row): _default_text(row) for row in group["options"]}
        parts += [group["group"], fields(rows), ""]
    parts.append(
        f"{len(document['rules'])} rules hold between them; `trtllm-pack explain NAME` tells about "
        "an option, a flag of `trtllm-build` or a rule"
    )
    return "\n".join(parts)


def one_text(document: Mapping[str, Json]) -> str:
    """One option or rule."""
    kind = document["kind"]
    if kind == "rule":
        return f"rule {document['name']}\n{fields(_rule_rows(document))}"
    if kind in ("gone", "decided"):
        told = "gone from TensorRT-LLM 1.2" if kind == "gone" else "not an option of a recipe"
        return f"{document['name']}: {told}\n  {document['instead']}"
    parts = [document["key"], fields(_option_rows(document))]
    rules = document["rules"]
    if rules:
        parts += ["", counted(len(rules), "rule")]
    for rule in rules:
        parts += [f"  {rule['name']} ({rule['effect']})", fields(_rule_rows(rule), "    ")]
    return "\n".join(parts)


def _option_rows(document: Mapping[str, Json]) -> dict[str, str]:
    rows = {"means": document["means"], "type": document["type"]}
    if "values" in document:
        rows["values"] = ", ".join(f"`{value}`" for value in document["values"])
    rows["default"] = _default_text(document)
    if "where" in document:
        rows["option of"] = document["where"]
        rows["flag"] = f"`{document['flag']}`" if document["flag"] else "none"
    return rows


def _rule_rows(rule: Mapping[str, Json]) -> dict[str, str]:
    return {
        "when": rule["when"],
        "effect": EFFECTS[rule["effect"]],
        "reason": _unbraced(rule["reason"]),
        "fix": _unbraced(rule["fix"]),
        "keys": ", ".join(f"`{key}`" for key in rule["keys"]),
        "source": f"{rule['source']} ({rule['sure']})",
    }


def _unbraced(text: str) -> str:
    """A format with its names in angle brackets: it is not filled in here."""
    doubled = text.replace("{{", "\0").replace("}}", "\1")
    named = re.sub(r"\{(?:model\[)?(\w+)\]?\}", r"<\1>", doubled)
    return named.replace("\0", "{").replace("\1", "}")


def _default_text(row: Mapping[str, Json]) -> str:
    ours = _value_text(row["default"])
    if not row.get("differs"):
        return ours
    return f"{ours} (TensorRT-LLM: {_value_text(row['tensorrt_llm_default'])})"


def _value_text(value: Json) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return f"[{', '.join(map(_value_text, value))}]" if isinstance(value, list) else str(value)


def _key(row: Mapping[str, Json]) -> str:
    return str(row["key"]).removeprefix("engine.")
