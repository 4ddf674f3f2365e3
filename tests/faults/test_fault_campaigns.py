"""The short form of the campaigns, on the shipped recipe; `make faults` plays the long one."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.command import ROOT, child_environment

pytestmark = pytest.mark.timeout(1800)

SEED = 20


def play(*arguments: str) -> dict[str, dict[str, int]]:
    """Counts by campaign and name; fails where anything was violated."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--seed", str(SEED), "--lanes", "1", *arguments],
        cwd=ROOT,
        env=child_environment(PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        timeout=1780,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    without_tracer = re.search(r"what needs the tracer skipped: .*", done.stdout)
    if without_tracer and not {"kills", "signals", "races", "limits"} & {*arguments}:
        pytest.skip(without_tracer[0])
    lines = re.findall(r"^(\w+): (.*); 0 violations \(seed", done.stdout, re.MULTILINE)
    counts = {name: re.findall(r"(\d+) ([^,]+)", told) for name, told in lines}
    return {name: {what: int(n) for n, what in pairs} for name, pairs in counts.items()}


def test_killed_again_and_again_a_run_completes_with_an_equal_release() -> None:
    counts = play("kills", "--kills", "16", "--recipe", "cpu-tp2")["kills"]
    assert counts["kills"] == counts["resumed with an equal digest"] >= 16
    assert counts["completed runs"] == counts["equal digests"] > 1


def test_killed_while_placing_the_earlier_release_or_the_new_one_is_there() -> None:
    counts = play("placing", "--placing-step", "5")["placing"]
    assert counts["kills while placing"] > 10


def test_what_is_published_was_synced_before() -> None:
    counts = play("power")["power"]
    assert counts["published folders"] == 8  # six stages, the release twice


def test_a_builder_in_a_child_process_dies_with_its_run() -> None:
    counts = play("kills", "--kills", "5", "--no-resume-each", "--recipe", "tensorrt")["kills"]
    assert counts["completed runs"] == counts["equal digests"] > 0


def test_asked_to_end_a_run_says_so_and_the_next_one_goes_on() -> None:
    counts = play("signals", "--signals", "10", "--recipe", "hub")["signals"]
    assert counts["signals"] >= 10
    assert counts["completed runs"] == counts["equal digests"] > 0


def test_faults_of_the_disk_are_clear_errors_and_the_next_run_completes() -> None:
    counts = play("disk", "--faults", "16")["disk"]
    assert counts["faults"] >= 16
    assert counts["clear errors"] > 3


def test_small_disks_files_and_tables_of_open_files() -> None:
    counts = play("limits", "--limits", "8", "--recipe", "cpu-tp2")["limits"]
    assert counts["limits"] == 8
    assert counts["clean continuations"] == 8


def test_layers_of_an_image_and_mount_points() -> None:
    played = play("mounts", "--mounts", "2", "--lanes", "1")
    if not played["mounts"]:
        pytest.skip("no file system can be mounted here")
    assert played["mounts"]["places"] == 2
    assert played["mounts"]["clean continuations"] == 3


def test_of_several_processes_one_makes_each_artifact() -> None:
    counts = play("races", "--races", "8", "--processes", "4")["races"]
    right = sum(number for name, number in counts.items() if name.startswith("right"))
    assert right == counts["races"] == 8
