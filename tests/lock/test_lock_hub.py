"""Locks of hub repos, with the real client: branches that move, files that change, no network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hub_emulator import HubEmulator

from pipeline.lock.document import lock_path
from tests.lock.conftest import HUB, Command

REPO = "acme/tiny"


def locked(recipe: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads(lock_path(recipe).read_text())
    return document


def changed(files: dict[str, bytes]) -> dict[str, bytes]:
    """The next commit of the branch: a file added, one removed, two changed, one at its size."""
    fewer = {name: data for name, data in files.items() if name != "generation_config.json"}
    licence = files["LICENSE"].replace(b"e", b"E", 1)
    added = {"chat_template.jinja": b"{{ messages }}", "LICENSE": licence}
    return {**fewer, **added, "tokenizer_config.json": files["tokenizer_config.json"] + b"\n"}


def test_only_small_files_are_fetched_and_a_second_lock_asks_for_nothing(
    hub: HubEmulator, files: dict[str, bytes], hub_recipe: Path, command: Command
) -> None:
    commit = hub.add(REPO, files).commit
    made = command("lock", hub_recipe)
    assert (made.code, made.err) == (0, "")
    assert made.out.splitlines()[1] == f"  + acme/tiny at {commit}: 8 files, 1.9 MB"
    assert not any(path.endswith(".safetensors") for path in hub.paths())
    source = locked(hub_recipe)["sources"][0]
    assert (source["asked"], source["kind"], source["commit"]) == ({"repo": REPO}, "hub", commit)
    blobs = {file["path"] for file in source["files"] if "git_blob" in file}
    assert blobs == {name for name in files if name not in hub.repos[REPO].lfs}

    asked, before = len(hub.requests), lock_path(hub_recipe).stat()
    for options in ((), ("--check",), ("--offline",), ("--check", "--update", "--offline")):
        again = command("lock", hub_recipe, *options)
        assert (again.code, again.out.split(":")[0]) == (
            0,
            f"{lock_path(hub_recipe)} is up to date",
        )
    assert len(hub.requests) == asked
    assert lock_path(hub_recipe).stat().st_ino == before.st_ino


def test_a_moved_branch_stays_locked_until_it_is_updated(
    hub: HubEmulator, files: dict[str, bytes], hub_recipe: Path, command: Command
) -> None:
    old = hub.add(REPO, files).commit
    assert command("lock", hub_recipe).code == 0
    new = hub.add(REPO, changed(files)).commit
    assert old != new
    assert command("lock", hub_recipe).code == 0
    assert command("lock", hub_recipe, "--check").code == 0
    assert old in lock_path(hub_recipe).read_text()

    refused = command("lock", hub_recipe, "--check", "--update")
    assert refused.code == 6
    assert f"commit {old} -> {new}" in refused.out
    assert old in lock_path(hub_recipe).read_text()
    moved = command("lock", hub_recipe, "--update")
    assert moved.code == 0
    assert new in lock_path(hub_recipe).read_text()
    for line in (
        "~ LICENSE 436 bytes as before, SHA-256 fda846a78aed -> ",
        "+ chat_template.jinja 14 bytes",
        "- generation_config.json 124 bytes",
        "~ tokenizer_config.json 188 -> 189 bytes, SHA-256 a18b030a60af -> ",
    ):
        assert line in " ".join(moved.out.split())
    assert command("lock", hub_recipe, "--check", "--update").code == 0


def test_without_frozen_the_lock_decides_the_commit_and_says_so(
    hub: HubEmulator, files: dict[str, bytes], hub_recipe: Path, command: Command
) -> None:
    old = hub.add(REPO, files).commit
    assert command("lock", hub_recipe).code == 0
    hub.add(REPO, changed(files))
    planned = command("plan", hub_recipe, "--json", store="another")
    assert planned.code == 0
    assert json.loads(planned.out)["source"]["commit"] == old
    (note,) = [json.loads(line) for line in planned.err.splitlines()]
    assert note["event"] == "note"
    assert note["message"].startswith(f"`{REPO}` is at commit {old[:12]}, as `tiny.lock.json` says")


def test_a_frozen_run_asks_for_no_branch_and_offline_for_nothing(
    hub: HubEmulator, files: dict[str, bytes], hub_recipe: Path, command: Command
) -> None:
    commit = hub.add(REPO, files).commit
    assert command("lock", hub_recipe).code == 0
    asked = len(hub.requests)
    hub.add(REPO, changed(files))
    fresh = command("download", hub_recipe, "--frozen", store="another")
    assert fresh.code == 0, fresh.err
    later = [request.path for request in hub.requests[asked:]]
    assert later
    assert not any("main" in path for path in later)
    assert [path for path in later if path.startswith("/api/")] == [
        path for path in later if f"/revision/{commit}" in path
    ]

    asked = len(hub.requests)
    for name in ("convert", "plan"):
        done = command(name, hub_recipe, "--frozen", "--offline", store="another")
        assert done.code == 0, done.err
    assert len(hub.requests) == asked


def test_frozen_and_not_frozen_make_the_same_artifact(
    hub: HubEmulator, files: dict[str, bytes], hub_recipe: Path, command: Command
) -> None:
    hub.add(REPO, files)
    plain = json.loads(command("download", hub_recipe, "--json").out)
    assert command("lock", hub_recipe).code == 0
    frozen = json.loads(command("download", hub_recipe, "--json", "--frozen").out)
    assert frozen["stages"][0]["reused"]
    assert frozen["stages"][0]["key"] == plain["stages"][0]["key"]


def edited(recipe: Path, old: str, new: str) -> None:
    text = lock_path(recipe).read_text()
    assert text.count(old) >= 1
    lock_path(recipe).write_text(text.replace(old, new))


def first_blob(recipe: Path, name: str) -> dict[str, str]:
    source = locked(recipe)["sources"][0]
    found: dict[str, str] = next(file for file in source["files"] if file["path"] == name)
    return found


@pytest.mark.parametrize("key", ["sha256", "git_blob"])
def test_a_wrong_digest_in_the_lock_of_a_small_file_is_found(
    key: str, hub: HubEmulator, files: dict[str, bytes], hub_recipe: Path, command: Command
) -> None:
    hub.add(REPO, files)
    assert command("lock", hub_recipe).code == 0
    right = first_blob(hub_recipe, "LICENSE")[key]
    wrong = ("1" if right[0] != "1" else "2") + right[1:]
    edited(hub_recipe, right, wrong)

    refused = command("download", hub_recipe, "--frozen")
    assert refused.code == 6
    word = "SHA-256" if key == "sha256" else "git blob"
    assert f"`LICENSE`: locked {word} `{wrong}`, found `{right}`" in refused.err
    assert command("download", hub_recipe).code == 0
    # Also where the artifact is there already, from a run that was not frozen.
    assert command("download", hub_recipe, "--frozen").code == 6
    assert command("lock", hub_recipe, "--check").code == 6
    mended = command("lock", hub_recipe)
    assert mended.code == 0
    assert command("download", hub_recipe, "--frozen").code == 0


OTHER_DIGEST = "0123456789abcdef" * 4

EDITS: dict[str, tuple[tuple[str | int, ...], object, int, str]] = {
    "repo": (("asked", "repo"), "acme/other", 3, "locked: `acme/other`"),
    "revision": (("asked", "revision"), "v1", 3, "asked: `acme/tiny`"),
    "kind": (("kind",), "modelscope", 6, "kind of source: locked `modelscope`, found `hub`"),
    "commit": (("commit",), "f" * 40, 5, "`tiny.lock.json` names this commit"),
    "path": (("files", 0, "path"), "LICENCE", 6, "`LICENCE`: locked 436 bytes, not found"),
    "size": (("files", 0, "size_bytes"), 437, 6, "locked 437 bytes, found 436 bytes"),
    "sha256": (("files", 3, "sha256"), OTHER_DIGEST, 6, f"locked SHA-256 `{OTHER_DIGEST}`"),
    "file": (("files", 3), None, 6, "`model-00001-of-00002.safetensors`: not locked, found 951,"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_lock_that_was_edited_is_refused_before_anything_is_fetched(
    name: str, hub: HubEmulator, files: dict[str, bytes], hub_recipe: Path, command: Command
) -> None:
    hub.add(REPO, files)
    assert command("lock", hub_recipe).code == 0
    place, value, code, told = EDITS[name]
    document = json.loads(lock_path(hub_recipe).read_text())
    inside = document["sources"][0]
    for step in place[:-1]:
        inside = inside[step]
    if value is None:
        del inside[place[-1]]
    else:
        inside[place[-1]] = value
    lock_path(hub_recipe).write_text(json.dumps(document))
    asked = len(hub.requests)
    for command_name in ("plan", "download"):
        refused = command(command_name, hub_recipe, "--frozen")
        assert refused.code == code
        assert told in refused.err
    assert not any(path.endswith(".safetensors") for path in hub.paths()[asked:])


def test_the_commit_of_the_lock_is_what_counts_not_its_branch(
    hub: HubEmulator, files: dict[str, bytes], hub_recipe: Path, command: Command
) -> None:
    old = hub.add(REPO, files).commit
    assert command("lock", hub_recipe).code == 0
    new = hub.add(REPO, changed(files)).commit
    edited(hub_recipe, old, new)
    refused = command("download", hub_recipe, "--frozen")
    assert refused.code == 6
    assert "`LICENSE`: locked git blob `" in refused.err
    for line in (
        "`chat_template.jinja`: not locked, found 14 bytes",
        "`generation_config.json`: locked 124 bytes, not found",
        "`tokenizer_config.json`: locked 188 bytes, found 189 bytes",
    ):
        assert line in refused.err


def test_each_variant_has_its_source_and_equal_ones_are_locked_once(
    hub: HubEmulator, files: dict[str, bytes], hub_recipe: Path, command: Command
) -> None:
    hub.add(REPO, files)
    hub.add("acme/other", changed(files), refs={"v2": "e" * 40, "main": "d" * 40})
    other = hub.repos["acme/other"]
    other.refs["v2"] = other.refs["main"] = other.commit
    hub_recipe.write_text(
        HUB
        + "variants:\n"
        + "  half: {checkpoint: {dtype: float16}}\n"
        + "  local: {source: {path: checkpoint}}\n"
        + "  other: {source: {repo: acme/other, revision: v2}}\n"
    )
    made = command("lock", hub_recipe, "--json")
    assert made.code == 0
    asked = [source["asked"] for source in json.loads(made.out)["sources"]]
    assert asked == [
        {"path": "checkpoint"},
        {"repo": "acme/other", "revision": "v2"},
        {"repo": REPO},
    ]
    for variant in ("half", "local", "other"):
        done = command("download", hub_recipe, "--frozen", "--variant", variant)
        assert done.code == 0, done.err
    checked = command("recipes", "check", hub_recipe)
    assert (checked.code, checked.out.split()[1:4]) == (0, ["half", "local", "other"])
    assert "(locked by tiny.lock.json)" in checked.out


def test_a_commit_that_is_gone_names_the_lock(
    hub: HubEmulator, files: dict[str, bytes], hub_recipe: Path, command: Command
) -> None:
    hub.add(REPO, files)
    assert command("lock", hub_recipe).code == 0
    hub.add(REPO, changed(files))
    hub.forgetful = True
    gone = command("download", hub_recipe, "--frozen", store="another")
    assert gone.code == 5
    assert "`tiny.lock.json` names this commit" in gone.err


def test_a_frozen_run_offline_on_a_machine_that_knows_nothing(
    hub: HubEmulator, files: dict[str, bytes], hub_recipe: Path, command: Command
) -> None:
    hub.add(REPO, files)
    assert command("lock", hub_recipe).code == 0
    asked = len(hub.requests)
    done = command("download", hub_recipe, "--frozen", "--offline", store="another")
    assert done.code == 5
    assert command("lock", hub_recipe, "--offline", store="another").code == 5
    assert len(hub.requests) == asked


def test_sources_or_tools_alone_are_updated(
    hub: HubEmulator,
    files: dict[str, bytes],
    hub_recipe: Path,
    command: Command,
    versions: dict[str, str | None],
) -> None:
    old = hub.add(REPO, files).commit
    assert command("lock", hub_recipe).code == 0
    first = lock_path(hub_recipe).read_text()
    new = hub.add(REPO, changed(files)).commit
    versions["numpy"] = "99.1"

    shown = command("lock", hub_recipe, "--check", "--update", "--only", "sources")
    assert (shown.code, "numpy" in shown.out) == (6, False)
    assert f"commit {old} -> {new}" in shown.out
    assert f"run `trtllm-pack lock --update --only sources {hub_recipe}`" in shown.out
    assert command("lock", hub_recipe, "--update", "--only", "tools").code == 0
    numpy = json.loads(first)["tools"]["numpy"]
    assert lock_path(hub_recipe).read_text() == first.replace(
        f'"numpy": "{numpy}"', '"numpy": "99.1"'
    )
    refused = command("lock", hub_recipe, "--only", "tools")
    assert (refused.code, "hint: add `--update`" in refused.err) == (2, True)
