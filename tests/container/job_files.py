"""Reads the examples of jobs: the command lines of trtllm-pack in them, images, variables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.container.dockerfile import ROOT

JOBS = ROOT / "docs" / "jobs"
DOCUMENT = ROOT / "docs" / "container.md"

_PROGRAM = "trtllm-pack"


@dataclass(frozen=True, slots=True)
class DockerRun:
    """A `docker run`: its options with their values, the image, and what runs in it."""

    options: tuple[tuple[str, str | None], ...]
    image: str
    arguments: tuple[str, ...]


SWITCHES = {"--rm", "--init", "--read-only"}
"""Options of `docker run` that take no value; all others here do."""


def read_yaml(path: Path) -> list[Any]:
    """Every document of a YAML file. The word `on` of GitHub's workflows is read as true."""
    return list(yaml.safe_load_all(path.read_text()))


def kubernetes_job() -> dict[str, Any]:
    """The Job of the Kubernetes example."""
    documents = read_yaml(JOBS / "kubernetes-job.yaml")
    (job,) = [each for each in documents if each["kind"] == "Job"]
    return dict(job)


def pod_containers() -> list[dict[str, Any]]:
    """Its init containers and containers."""
    spec = kubernetes_job()["spec"]["template"]["spec"]
    return [*spec["initContainers"], *spec["containers"]]


def shell_lines(path: Path) -> list[str]:
    """The commands of a workflow, a pipeline, or the code blocks of a document, one each."""
    if path.suffix == ".md":
        blocks = re.findall(r"^```sh\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
        joined = [re.sub(r"\\\n\s*", "", block) for block in blocks]
        return [line for block in joined for line in block.splitlines() if line.strip()]
    (document,) = read_yaml(path)
    return list(_scripts(document))


def _scripts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "run":
                yield inner
            elif key == "script":
                yield from inner
            else:
                yield from _scripts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _scripts(inner)


def docker_runs(lines: list[str]) -> list[DockerRun]:
    """Every `docker run` among commands; those that leave options out (`...`) are passed by."""
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[:2] == ["docker", "run"] and "..." not in words:
            found.append(_docker_run(words[2:]))
    return found


def _docker_run(words: list[str]) -> DockerRun:
    options: list[tuple[str, str | None]] = []
    while words[0].startswith("--"):
        name = words.pop(0)
        options.append((name, None if name in SWITCHES else words.pop(0)))
    return DockerRun(tuple(options), words[0], tuple(words[1:]))


def pack_lines(lines: list[str]) -> list[list[str]]:
    """The arguments of every trtllm-pack among commands, in a container or not."""
    direct = [shlex.split(line, comments=True) for line in lines]
    found = [words[1:] for words in direct if words and words[0] == _PROGRAM]
    return found + [list(run.arguments) for run in docker_runs(lines)]
