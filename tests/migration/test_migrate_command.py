"""The command `migrate`, run as a user does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.command import child_environment, command_line, run_command

CONVERT = "python3 convert_checkpoint.py --model_dir a/b --output_dir c --dtype bfloat16"
BUILD = "trtllm-build --checkpoint_dir c --output_dir e --max_batch_size 4"


def test_recipe_on_stdout_and_explanation_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "build.sh").write_text(f"{CONVERT}\n{BUILD}\n", encoding="utf-8")
    done = run_command("migrate", "build.sh", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# yaml-language-server")
    assert "# Migrated from `build.sh`" in done.stdout
    assert "--max_batch_size 4" in done.stderr
    assert "kept -> engine.max_batch_size: 4" in done.stderr


def test_out_is_a_recipe_that_checks_and_is_never_overwritten(tmp_path: Path) -> None:
    arguments = ("migrate", "--command", CONVERT, "--command", BUILD, "--out", "x.yaml")
    assert run_command(*arguments, cwd=tmp_path).stdout == "wrote x.yaml\n"
    assert run_command("recipes", "check", "x.yaml", cwd=tmp_path).returncode == 0
    (tmp_path / "x.yaml").write_text("mine", encoding="utf-8")
    done = run_command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "`x.yaml` exists already" in done.stderr
    assert (tmp_path / "x.yaml").read_text(encoding="utf-8") == "mine"


def test_what_is_left_is_exit_code_3_unless_partial(tmp_path: Path) -> None:
    arguments = ("migrate", "--command", f"{CONVERT} --use_weight_only", "--out")
    done = run_command(*arguments, "a.yaml", cwd=tmp_path)
    assert done.returncode == 3
    assert "! --use_weight_only" in done.stderr
    assert "# quantization:" in (tmp_path / "a.yaml").read_text(encoding="utf-8")
    assert run_command(*arguments, "b.yaml", "--partial", cwd=tmp_path).returncode == 0


def test_stdin_and_json() -> None:
    done = subprocess.run(
        command_line("migrate", "-", "--json", "--name", "mine", "--target", "sm89"),
        input=f"{CONVERT}\n{BUILD} --max_seq_len $LEN\n",
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document["whole"] is False
    assert "name: mine" in document["recipe"]
    assert "targets: [sm89]" in document["recipe"]
    flags = {flag["flag"]: flag["verdict"] for flag in document["engines"][0]["flags"]}
    assert flags["--max_seq_len $LEN"] == "not known"


def test_variables_are_given() -> None:
    arguments = ("migrate", "--command", CONVERT, "--command", f"{BUILD} --max_seq_len $LEN")
    assert "--var NAME=VALUE" in run_command(*arguments).stderr
    done = run_command(*arguments, "--var", "LEN=4096")
    assert done.returncode == 0, done.stderr
    assert "max_seq_len: 4096" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a file"),
        (("x.sh", "--command", "y"), "give a file"),
        (("no-such-file",), "`no-such-file` does not exist"),
        (("binary",), "not a UTF-8 text"),
        (("zeros",), "not a text"),
        (("huge",), "longer than"),
        (("quote",), "opens `'`, which is never closed"),
        (("--command", "ls"), "no command of TensorRT-LLM"),
        (("--command", CONVERT, "--target", "h100"), "no GPU architecture"),
        (("--command", CONVERT, "--var", "X"), "is not `NAME=VALUE`"),
    ],
)
def test_usage_errors_have_no_traceback(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "zeros").write_bytes(bytes(1000))
    (tmp_path / "huge").write_bytes(b"#" * 3_000_000)
    (tmp_path / "quote").write_text("trtllm-build --output_dir 'x", encoding="utf-8")
    done = run_command("migrate", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_folder_is_an_error_of_the_machine(tmp_path: Path) -> None:
    done = run_command("migrate", str(tmp_path))
    assert done.returncode == 4
    assert "cannot be read" in done.stderr
