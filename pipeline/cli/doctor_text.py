"""The document of `trtllm-pack doctor`, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.artifact import Json
from pipeline.console import fields, format_bytes, printable, table
from pipeline.doctor.drift import SEND

SHOWN = 2
"""Harmless differences of a section that are written out."""


def doctor_text(document: Mapping[str, Json]) -> str:
    """Headings, then names and values; what is wrong stands in words, never in colour alone."""
    sections = {
        "machine": _machine(document),
        "GPUs": _gpus(document["gpu"]),
        "engine backends": "\n".join(_backends(document["backends"])),
        "container": _container(document["container"], document["reproducible_bytes"]),
        "packages": _packages(document["packages"]),
        "programs": fields({k: v or "not found" for k, v in document["programs"].items()}),
        "Hugging Face Hub": _hub(document["hub"]),
        "ModelScope": _hub(document["modelscope"]),
        "installed TensorRT-LLM": "\n".join(_drift(document["tensorrt_llm"])),
    }
    if "recipe" in document:
        path, told = document["recipe"]["path"], document["recipe"]["differences"]
        sections[f"what concerns {path}"] = "\n".join(f"  {line}" for line in told or ["nothing"])
    if document["advice"]:
        sections["advice"] = "\n".join(f"  {line}" for line in document["advice"])
    missing = document["required"]["missing"]
    if missing:
        sections["required, but cannot build here"] = "  " + ", ".join(missing)
    return printable("\n\n".join(f"{title}\n{text}" for title, text in sections.items()))


def _machine(document: Mapping[str, Json]) -> str:
    machine = document["machine"]
    available, total = machine["available_memory_bytes"], machine["memory_bytes"]
    free = format_bytes(machine["store_free_disk_bytes"])
    writable = "" if machine["store_writable"] else ", and cannot be written"
    return fields(
        {
            "trtllm-pack": document["trtllm_pack"],
            "Python": f"{document['python']} ({document['executable']})",
            "system": f"{machine['system']}, {machine['architecture']}, {machine['libc']}",
            "processors": str(machine["num_cpus"]),
            "memory": f"{format_bytes(available)} available of {format_bytes(total)}",
            "store": f"{machine['store']}: {free} free{writable}",
        }
    )


def _gpus(gpu: Mapping[str, Json]) -> str:
    if not gpu["gpus"]:
        return f"  none: {gpu['why_none']}"
    rows = [["name", "target", "memory", "free", "driver", "MIG"]]
    for each in gpu["gpus"]:
        free = each["free_memory_bytes"]
        memory = format_bytes(each["memory_bytes"])
        told = "unknown" if free is None else format_bytes(free)
        rows.append([each["name"], each["target"], memory, told, each["driver"], each["mig"]])
    return table(rows)


def _backends(backends: Mapping[str, Json]) -> Iterator[str]:
    for name, facts in backends.items():
        tools = ", ".join(f"{tool} {version}" for tool, version in facts["tools"].items())
        yield f"  {name}" + (f"  ({tools})" if tools else "")
        yield "    builds   " + ("yes" if facts["builds"] else f"no: {facts['why_not']}")
        for row in facts["runs"]:
            where = f"{row['target']}: " if row["target"] else ""
            yield f"    runs     {where}" + ("yes" if row["runs"] else f"no: {row['why_not']}")


def _container(container: Mapping[str, Json], bytes_: Mapping[str, Json]) -> str:
    cpus = container["cpu_limit"]
    same = "yes" if bytes_["possible"] else f"no: {bytes_['why_not']}"
    return fields(
        {
            "kind": container["kind"] or "none that is known",
            "memory limit": _size(container["memory_limit_bytes"]),
            "processor limit": "none" if cpus is None else str(cpus),
            "shared memory": _size(container["shared_memory_bytes"]),
            "locked memory limit": _size(container["locked_memory_limit_bytes"]),
            "stack limit": _size(container["stack_limit_bytes"]),
            "seccomp": container["seccomp"],
            "user": str(container["user"]),
            "engines equal to the byte": same,
        }
    )


def _size(count: int | None) -> str:
    return "none" if count is None else format_bytes(count)


def _packages(packages: Mapping[str, Mapping[str, str | None]]) -> str:
    if not packages:
        return "  unknown: trtllm-pack is not installed as a package"
    lines = {}
    for extra, versions in packages.items():
        told = [f"{name} {version or '(missing)'}" for name, version in versions.items()]
        lines[extra] = ", ".join(told)
    return fields(lines)


def _hub(hub: Mapping[str, Json]) -> str:
    token = hub["token"]
    return fields(
        {
            "token": f"present ({token['from']})" if token["present"] else "none",
            "reachable": hub["reachable"],
        }
    )


def _drift(installed: Mapping[str, Json]) -> Iterator[str]:
    if not installed["installed"]:
        yield "  none"
        return
    versions = ", ".join(f"{name} {v}" for name, v in installed["versions"].items())
    yield f"  {versions}"
    for section, why in installed["unread"].items():
        yield f"  not read: {section}: {why}"
    for difference in installed["matters"]:
        yield f"  matters: {difference['message']}"
        if todo := difference["todo"].removesuffix(SEND).removesuffix(", and "):
            yield f"    {todo}"
    if installed["matters"]:
        yield f"  {SEND}"
    yield from _harmless(installed["harmless"])
    if not installed["matters"] and not installed["unread"]:
        yield "  no drift that matters: it is as the facts of this version say"


def _harmless(differences: list[Mapping[str, Json]]) -> Iterator[str]:
    """One line for each section: names that are new are many, and `--json` has them all."""
    by_section: dict[str, list[str]] = {}
    for each in differences:
        by_section.setdefault(each["section"], []).append(each["message"])
    for messages in by_section.values():
        shown, left = messages[:SHOWN], len(messages) - SHOWN
        more = f", and {left} more of that kind (`--json` has them)" if left > 0 else ""
        yield f"  harmless: {'; '.join(shown)}{more}"
