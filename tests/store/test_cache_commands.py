"""The commands `cache ls | path | gc | verify` as users run them."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

import pytest
from command import run_command
from published import publish

from pipeline.store import Store

KEY = "ab" * 32


def ask(store: Store, *arguments: str, code: int = 0) -> str:
    done = run_command("cache", *arguments, "--store", store.root)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.fixture
def filled(store: Store) -> Store:
    publish(store, {"f": b"abc"}, KEY, stage="download", inputs={})
    publish(store, {"f": b"def"}, "cd" * 32, inputs={"download": KEY})
    return store


def test_an_empty_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    assert ask(store, "ls") == f"{store.root}: 0 artifacts, 0 B on disk\n"
    assert ask(store, "verify").startswith("0 artifacts")
    assert ask(store, "gc").startswith("nothing to delete")
    assert not store.root.exists()


def test_ls(filled: Store) -> None:
    text = ask(filled, "ls")
    assert f"{filled.root}: 2 artifacts, " in text
    assert [line.split()[0] for line in text.splitlines()[2:]] == [
        "artifact",
        f"download/{KEY[:12]}",
        f"convert/{'cd' * 6}",
    ]
    assert "just now" in text
    document: dict[str, Any] = json.loads(ask(filled, "ls", "--json"))
    assert document["num_artifacts"] == 2
    assert document["artifacts"][0]["users"] == [f"convert/{'cd' * 32}"]
    assert document["artifacts"][1]["inputs"] == [f"download/{KEY}"]
    assert "blocks" not in document["artifacts"][0]


def test_path(filled: Store) -> None:
    assert ask(filled, "path") == f"{filled.root}\n"
    assert ask(filled, "path", "abab") == f"{filled.path_of('download', KEY)}\n"
    ask(filled, "path", "ef", code=2)


def test_verify_and_delete(filled: Store) -> None:
    assert "2 artifacts, " in ask(filled, "verify")
    path = filled.path_of("download", KEY) / "f"
    path.chmod(0o644)
    path.write_bytes(b"abd")
    text = ask(filled, "verify", code=6)
    assert "damaged: 1 of 2 artifacts (" in text
    assert "`f` is changed" in text
    assert "hint: `--delete`" in text
    ask(filled, "verify", "convert/cd")
    document = json.loads(ask(filled, "verify", "--delete", "--json"))
    assert [each["deleted"] for each in document["damaged"]] == [True]
    assert filled.find("download", KEY) is None
    assert "1 artifact, " in ask(filled, "verify")


def test_what_a_process_needs_is_not_deleted_though_it_is_damaged(filled: Store) -> None:
    path = filled.path_of("download", KEY) / "f"
    path.chmod(0o644)
    path.write_bytes(b"abd")
    with filled.session() as session:
        session.hold([f"download/{KEY}"])
        text = ask(filled, "verify", "--delete", code=6)
        assert "(not deleted: a process at work needs it)" in text
        assert "hint: `--delete`" not in text
    assert path.exists()


def test_a_store_that_is_none_is_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for command in ("ls", "path", "gc", "verify"):
        ask(Store(tmp_path / "file"), command, code=2)


def test_names_do_not_drive_the_terminal(filled: Store) -> None:
    (filled.root / "artifacts" / "convert" / "a\x1b[31mb").mkdir()
    for command in ("ls", "verify", "gc"):
        options = ["--max-size", "0"] if command == "gc" else []
        text = ask(filled, command, *options, code=6 if command == "verify" else 0)
        assert "[31mb" in text
        assert "\x1b" not in text


def test_verify_tells_how_far_it_is(filled: Store) -> None:
    done = run_command("cache", "verify", "--store", filled.root, "--json")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert events[0]["event"] == "progress"
    assert events[-1]["task"] == "check"


def test_gc(filled: Store) -> None:
    assert "would delete download/" in ask(filled, "gc", "--max-size", "0", "--dry-run")
    assert "nothing to delete" in ask(filled, "gc", "--older-than", "1d")
    assert "deleted convert/" in ask(filled, "gc", "--max-size", "0")
    assert "0 artifacts" in ask(filled, "ls")
    ask(filled, "gc", "--max-size", "much", code=2)
    ask(filled, "gc", "--older-than", "long", code=2)


def test_out_may_not_lie_in_the_store(store: Store) -> None:
    recipe = Path(__file__).parents[2] / "recipes" / "demo.yaml"
    done = run_command("convert", recipe, "--store", store.root, "--out", store.root / "out")
    assert done.returncode == 2
    assert "lies in the store" in done.stderr
    assert not store.root.exists()


def test_a_run_keeps_its_store_small(store: Store, tmp_path: Path) -> None:
    options = ("--set", "engine.backend=onnxruntime", "--store", str(store.root), "--quiet")
    recipe = Path(__file__).parents[2] / "recipes" / "demo.yaml"
    publish(store, {"f": b"old"}, KEY, stage="download", inputs={})
    done = run_command("convert", recipe, *options, "--store-limit", "1kB")
    assert done.returncode == 0, done.stderr
    assert store.find("download", KEY) is None
    assert len(json.loads(ask(store, "ls", "--json"))["artifacts"]) == 3
    strange = store.root / "sessions" / "strange.json"
    strange.write_bytes(b"{")
    with strange.open("rb") as held:  # else it would count as dead where the machine is slow
        fcntl.flock(held, fcntl.LOCK_EX)
        done = run_command("convert", recipe, *options[:-1], "--store-limit", "1kB")
    assert done.returncode == 0, done.stderr
    assert "note: nothing was deleted for `--store-limit`: a process is at work" in done.stderr
    shared = Store(tmp_path / "other")
    done = run_command(
        *("convert", recipe, "--set", "engine.backend=onnxruntime", "--json"),
        *("--store", shared.root),
        env={"TRTLLM_PACK_SHARED_STORES": str(store.root)},
    )
    assert done.returncode == 0, done.stderr
    assert all(stage["reused"] for stage in json.loads(done.stdout)["stages"])
    assert not (shared.root / "artifacts").exists()
