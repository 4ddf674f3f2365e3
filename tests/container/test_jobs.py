"""The examples of jobs agree with the program: commands, images, variables, exit codes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline import __version__, errors
from pipeline.cli import app
from pipeline.recipe.load import load_recipe
from tests.command import ROOT
from tests.container.dockerfile import read_dockerfile
from tests.container.job_files import (
    DOCUMENT,
    JOBS,
    DockerRun,
    docker_runs,
    kubernetes_job,
    pack_lines,
    pod_containers,
    read_yaml,
    shell_lines,
)

FILES = sorted(JOBS.glob("*.yaml"))
SHELL = [DOCUMENT, JOBS / "github-actions.yaml", JOBS / "gitlab-ci.yaml"]
STAGES = {each.stage for each in read_dockerfile()} - {"", "wheel"}
TARGETS = {"cpu", "trtllm"}

KINDS = {
    kind.exit_code: name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.PipelineError)
}
AGAIN = {errors.RemoteError, errors.LockedError}
"""Kinds of failure that another attempt on the same machine may not have."""

SETTINGS = {"TRTLLM_PACK_STORE", "HF_HOME", "HF_TOKEN", "HOME"}
"""Variables that trtllm-pack or the hub's client reads."""


LITERAL = re.compile(r"HF_TOKEN['\"]?\s*[:=]\s*['\"]?\w")
"""A value that is written after the name; a reference begins with `$`."""


def accept(arguments: list[str]) -> None:
    """Parse a command line as the program does, without running it."""
    group = typer.main.get_command(app)
    context = group.make_context("trtllm-pack", list(arguments))
    name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
    while hasattr(command, "resolve_command"):
        context = command.make_context(name, rest, parent=context)
        found = command.resolve_command(context, [*context._protected_args, *context.args])
        name, command, rest = found
    command.make_context(name, rest, parent=context)


def commands() -> list[list[str]]:
    found = [each for path in SHELL for each in pack_lines(shell_lines(path))]
    return found + [container["args"] for container in pod_containers()]


def images() -> set[str]:
    text = "\n".join(path.read_text() for path in [DOCUMENT, *FILES])
    return set(re.findall(r"[\w./-]*trtllm-pack:[\w.-]+", text))


def test_there_are_examples_of_each_kind() -> None:
    assert [path.stem for path in FILES] == ["github-actions", "gitlab-ci", "kubernetes-job"]
    assert {arguments[0] for arguments in commands()} == {"doctor", "recipes", "run"}
    assert len(commands()) >= 9


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_the_program_accepts_every_command(arguments: list[str]) -> None:
    accept(arguments)


def test_what_it_does_not_accept_is_noticed() -> None:
    with pytest.raises(Exception, match="No such option: --requires"):
        accept(["doctor", "--requires", "trtllm"])


def test_every_image_is_a_target_of_this_version() -> None:
    assert STAGES >= TARGETS
    tags = [image.rpartition(":")[2] for image in images()]
    assert len(tags) >= 3
    assert {tag.rpartition("-")[0] for tag in tags} == {__version__}
    assert {tag.rpartition("-")[2] for tag in tags} == TARGETS


def test_the_variables_exist() -> None:
    named = {each["name"] for container in pod_containers() for each in container["env"]}
    assert named <= SETTINGS
    (gitlab,) = read_yaml(JOBS / "gitlab-ci.yaml")
    assert set(gitlab["variables"]) - {"RECIPE", "VARIANT"} <= SETTINGS
    for path in SHELL:
        for run in docker_runs(shell_lines(path)):
            given = {
                value.split("=")[0] for name, value in run.options if name == "--env" and value
            }
            assert given <= SETTINGS


def test_a_token_is_passed_by_name_alone() -> None:
    for container in pod_containers():
        for each in container["env"]:
            if each["name"] == "HF_TOKEN":
                assert "value" not in each
                secret = each["valueFrom"]["secretKeyRef"]
                assert secret == {"name": "hub-token", "key": "HF_TOKEN", "optional": True}
    (workflow,) = read_yaml(JOBS / "github-actions.yaml")
    assert workflow["jobs"]["build"]["env"]["HF_TOKEN"] == "${{ secrets.HF_TOKEN }}"
    (gitlab,) = read_yaml(JOBS / "gitlab-ci.yaml")
    assert "HF_TOKEN" not in str(gitlab)


@pytest.mark.parametrize("path", [DOCUMENT, *FILES], ids=lambda path: path.name)
def test_no_secret_is_written_out(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"hf_[A-Za-z0-9]{6,}", text)
    assert not LITERAL.search(text)


def test_a_written_secret_would_be_noticed() -> None:
    assert LITERAL.search("HF_TOKEN: abc123")
    assert LITERAL.search("docker run --env HF_TOKEN=abc123")
    assert not LITERAL.search(
        'HF_TOKEN: ${{ secrets.HF_TOKEN }}\n--from-literal=HF_TOKEN="$HF_TOKEN"'
    )


def test_the_secret_is_made_by_a_command_and_stands_in_no_file() -> None:
    documents = read_yaml(JOBS / "kubernetes-job.yaml")
    assert "Secret" not in {each["kind"] for each in documents}
    assert "create secret generic hub-token" in (JOBS / "kubernetes-job.yaml").read_text()


def test_containers_of_a_gpu_have_what_nvidia_starts_its_image_with() -> None:
    runs = [run for path in SHELL for run in docker_runs(shell_lines(path))]
    assert len(runs) >= 4
    for run in runs:
        options = set(run.options)
        assert {("--gpus", "all"), ("--ipc", "host"), ("--rm", None), ("--init", None)} <= options
        assert {("--ulimit", "memlock=-1"), ("--ulimit", "stack=67108864")} <= options


def rule(action: str) -> dict[str, Any]:
    rules = kubernetes_job()["spec"]["podFailurePolicy"]["rules"]
    (found,) = [each for each in rules if each["action"] == action]
    return dict(found)


def test_the_failure_policy_is_by_our_exit_codes() -> None:
    again = {kind.exit_code for kind in AGAIN}
    final = set(KINDS) - again - {errors.PipelineError.exit_code}
    assert set(rule("FailJob")["onExitCodes"]["values"]) == final
    assert set(rule("Count")["onExitCodes"]["values"]) == again
    assert rule("Ignore")["onPodConditions"][0]["type"] == "DisruptionTarget"
    job = kubernetes_job()["spec"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # the policy needs it
    assert job["backoffLimit"] >= 1
    (gitlab,) = read_yaml(JOBS / "gitlab-ci.yaml")
    assert set(gitlab["build"]["retry"]["exit_codes"]) == again


def test_the_document_lists_every_exit_code() -> None:
    told = set(re.findall(r"^\| (\d+) \|", DOCUMENT.read_text(), re.MULTILINE))
    assert {int(code) for code in told} == {0, *KINDS}


def test_the_pod_is_as_small_as_it_can_be() -> None:
    spec = kubernetes_job()["spec"]["template"]["spec"]
    security = spec["securityContext"]
    users = {each.text for each in read_dockerfile() if each.word == "USER"} - {"root"}
    assert security["runAsNonRoot"] is True
    assert {security[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == set(map(int, users))
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "nvidia.com/gpu.product" in spec["nodeSelector"]
    volumes = {each["name"]: each for each in spec["volumes"]}
    assert volumes["shared-memory"]["emptyDir"]["medium"] == "Memory"
    for container in pod_containers():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
        mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
        assert {each["name"] for each in mounts.values()} <= volumes.keys()
        assert mounts["/dev/shm"]["name"] == "shared-memory"
        environment = {each["name"]: each.get("value") for each in container["env"]}
        for name in ("TRTLLM_PACK_STORE", "HF_HOME"):
            assert not mounts[str(environment[name])].get("readOnly")


def test_the_places_of_the_image_are_those_of_the_job() -> None:
    (text,) = [
        each.text for each in read_dockerfile() if (each.stage, each.word) == ("trtllm", "ENV")
    ]
    image = dict(re.findall(r"(\w+)=(\S+)", text))
    for container in pod_containers():
        for each in container["env"]:
            if each["name"] in image:
                assert each["value"] == image[each["name"]]


def test_the_recipe_of_the_job_is_one(tmp_path: Path) -> None:
    documents = read_yaml(JOBS / "kubernetes-job.yaml")
    (config,) = [each for each in documents if each["kind"] == "ConfigMap"]
    path = tmp_path / "recipe.yaml"
    path.write_text(config["data"]["recipe.yaml"])
    recipe = load_recipe(path).recipe
    (pack,) = [c for c in pod_containers() if c["name"] == "trtllm-pack"]
    assert pack["args"][pack["args"].index("--out") + 1] == f"/releases/{recipe.name}"
    assert recipe.engine.backend == "trtllm"
    assert recipe.smoke.require_engine


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", DOCUMENT.read_text()):
        assert (DOCUMENT.parent / target).exists()


def _recipes_of_the_gpu_image() -> list[tuple[str, str]]:
    """Recipe and variant of each `run` in the image for GPUs, as the examples have them."""
    (github,) = read_yaml(JOBS / "github-actions.yaml")
    (gitlab,) = read_yaml(JOBS / "gitlab-ci.yaml")
    inputs = github[True]["workflow_dispatch"]["inputs"]
    runs = [each for each in pack_lines(shell_lines(DOCUMENT)) if each[0] == "run"]
    found = [(each[1], each[each.index("--variant") + 1]) for each in runs]
    found.append((inputs["recipe"]["default"], inputs["variant"]["default"]))
    return [*found, (gitlab["variables"]["RECIPE"], gitlab["variables"]["VARIANT"])]


@pytest.mark.parametrize(("recipe", "variant"), _recipes_of_the_gpu_image())
def test_what_the_gpu_image_runs_has_its_backend(recipe: str, variant: str) -> None:
    assert load_recipe(ROOT / recipe, variant=variant).recipe.engine.backend == "trtllm"


@pytest.mark.parametrize("run", docker_runs([line for path in SHELL for line in shell_lines(path)]))
def test_a_user_whom_the_image_does_not_know_has_a_home(run: DockerRun) -> None:
    if any(name == "--user" for name, _ in run.options):
        assert ("--env", "HOME=/tmp") in run.options
