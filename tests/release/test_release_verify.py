"""Verify: every changed byte of a release, folder or tar, is found and its file named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import UsageError, VerificationError
from pipeline.progress import Silent
from pipeline.release.digests import SUMS_NAME, encode_sums, list_extents, parse_sums
from pipeline.release.manifest import MANIFEST_NAME
from pipeline.release.tar import write_tar
from pipeline.release.tar_reader import read_tar
from pipeline.release.verify import verify_release
from tests.release.made import L4, NO_GPU, release_in


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release folder; its tar is beside it. Tests that change it use a copy."""
    return release_in(tmp_path_factory.mktemp("made"))


@pytest.fixture
def release(made: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    shutil.copytree(made, folder)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def faults_of(path: Path) -> list[str]:
    with pytest.raises(VerificationError) as caught:
        verify_release(path, NO_GPU)
    return list(caught.value.facts)


@contextmanager
def changed(path: Path, position: int, mask: int) -> Iterator[None]:
    """One byte of a file is another one."""
    with path.open("rb+", buffering=0) as file:

        def flip() -> None:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ mask]))

        flip()
        yield
        flip()


def test_a_sound_release(made: Path) -> None:
    for path, form in ((made, "folder"), (made.with_suffix(".tar"), "tar")):
        report = verify_release(path, NO_GPU)
        assert (report.form, report.num_files, report.manifest.name) == (form, 17, "tiny")
        assert report.size_bytes == sum(p.stat().st_size for p in made.rglob("*") if p.is_file())
        assert report.text().startswith("tiny: sound (17 files, ")
        assert json.loads(json.dumps(report.document()))["sound"] is True


def test_every_byte_of_the_small_files_of_a_folder(release: Path) -> None:
    """Each position of each file: one fault, and it names the file and no other."""
    paths = sorted(path for path in release.rglob("*") if path.is_file())
    assert len(paths) == 17
    for path in paths:
        name, size_bytes = path.relative_to(release).as_posix(), path.stat().st_size
        for position in range(0, size_bytes, max(1, size_bytes // 60)):
            with changed(path, position, 1 << position % 8):
                (fault,) = faults_of(release)
            assert f"`{name}` " in fault, (name, position, fault)
    verify_release(release, NO_GPU)


def test_every_byte_of_a_tar(made: Path, tmp_path: Path) -> None:
    """Headers, data and padding; a fault names the entry, as the tar or its header calls it."""
    path = tmp_path / "tiny.tar"
    shutil.copyfile(made.with_suffix(".tar"), path)
    extents = read_tar(path)
    owner = {
        position: name.removeprefix("tiny/")
        for name, extent in extents.items()
        for position in range(extent.offset, extent.offset + extent.size_bytes)
    }
    for position in range(0, path.stat().st_size, 37):
        with changed(path, position, 1 << position % 8):
            faults = faults_of(path)
        if position in owner:
            (fault,) = faults
            assert f"`{owner[position]}` " in fault, (position, fault)
        elif position < max(owner):
            assert any("header of" in fault or "padding behind" in fault for fault in faults)
    verify_release(path, NO_GPU)


@pytest.mark.parametrize("offset", [0, 3, 20, 100, 101, 124, 136, 148, 156, 157, 257, 345, 511])
def test_each_field_of_a_header_names_its_entry(made: Path, tmp_path: Path, offset: int) -> None:
    path = tmp_path / "tiny.tar"
    shutil.copyfile(made.with_suffix(".tar"), path)
    start = read_tar(path)["tiny/engine/decoder.onnx"].offset - 512
    with changed(path, start + offset, 1):
        faults = faults_of(path)
    named = [fault for fault in faults if "engine/decoder.onnx" in fault]
    assert named, faults
    assert len(faults) <= 3


def test_every_part_of_the_sums(release: Path) -> None:
    path = release / SUMS_NAME
    for position in range(0, path.stat().st_size, 3):
        with changed(path, position, 1 << position % 8):
            (fault,) = faults_of(release)
        assert fault.startswith(f"`{SUMS_NAME}` is changed: line "), (position, fault)


def test_missing_extra_and_changed_are_all_listed(release: Path) -> None:
    (release / "engine/decoder.onnx").unlink()
    (release / "LICENSE").write_text("pay me")
    (release / "run.sh").write_text("rm -rf /")
    (release / "hidden").mkdir()
    facts = "\n".join(faults_of(release))
    assert "`engine/decoder.onnx` is missing" in facts
    assert "`LICENSE` is changed: SHA-256 " in facts
    assert "`run.sh` is not in the manifest" in facts
    assert "`hidden/` is a folder without files" in facts


@pytest.mark.parametrize("name", [MANIFEST_NAME, SUMS_NAME])
def test_a_missing_list_is_named(release: Path, name: str) -> None:
    (release / name).unlink()
    assert faults_of(release) == [f"`{name}` is missing"]


def test_a_changed_manifest_hides_no_changed_file(release: Path) -> None:
    with (release / MANIFEST_NAME).open("ab") as file:
        file.write(b"\n")
    (release / "smoke.json").write_text("{}")
    facts = faults_of(release)
    assert [fact.split("`")[1] for fact in facts] == [MANIFEST_NAME, "smoke.json"]
    (release / SUMS_NAME).write_text("gone\n")
    assert "so no other file can be checked" in faults_of(release)[-1]


def test_a_forged_line_of_the_sums_is_not_believed(release: Path) -> None:
    forged = b"forged"
    (release / "smoke.json").write_bytes(forged)
    sums = parse_sums((release / SUMS_NAME).read_bytes())
    assert sums is not None
    sums["smoke.json"] = hashlib.sha256(forged).hexdigest()
    (release / SUMS_NAME).write_bytes(encode_sums(sums))
    assert [fact.split("`")[1] for fact in faults_of(release)] == ["smoke.json", SUMS_NAME]


def test_links_and_pipes_are_refused(release: Path) -> None:
    (release / "LICENSE").unlink()
    (release / "LICENSE").symlink_to("/etc/hostname")
    os.mkfifo(release / "pipe")
    (release / "loop").symlink_to(".")
    facts = "\n".join(faults_of(release))
    assert "`LICENSE` is neither a regular file nor a folder" in facts
    assert "`LICENSE` is missing" in facts
    assert "`pipe` is neither" in facts
    assert "`loop` is neither" in facts


def test_a_renamed_folder_is_sound_and_a_renamed_root_is_not(
    made: Path, release: Path, tmp_path: Path
) -> None:
    release.rename(tmp_path / "other")
    verify_release(tmp_path / "other", NO_GPU)
    write_tar(tmp_path / "x.tar", "tony", list_extents(made), Silent())
    assert faults_of(tmp_path / "x.tar") == ["the top folder of the tar is `tony`, expected `tiny`"]


def test_what_is_no_release(release: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        verify_release(tmp_path / "nothing", NO_GPU)
    with pytest.raises(VerificationError) as caught:
        verify_release(tmp_path, NO_GPU)
    assert caught.value.hint == f"name `{release}`, which is inside it"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        verify_release(tmp_path / "pipe", NO_GPU)
    (tmp_path / "x.tar").write_bytes(b"")
    assert faults_of(tmp_path / "x.tar")


def test_the_fit_is_a_fact_not_a_failure(tmp_path: Path) -> None:
    recipe = {"engine": {"backend": "tensorrt", "targets": ["sm89"]}}
    release = release_in(tmp_path, recipe=recipe)
    report = verify_release(release, NO_GPU)
    assert not report.fit.runs
    assert report.fit.reasons
    assert "cannot run here" in report.text()


def test_an_engine_of_another_tensorrt_cannot_run(tmp_path: Path) -> None:
    tools = {"onnx": "0.1", "tensorrt-no-such": "10.14"}
    report = verify_release(release_in(tmp_path, tools=tools), L4)
    assert report.fit.reasons == ("built with `tensorrt-no-such` 10.14; installed is none",)


def test_a_recipe_of_the_future_is_no_failure(tmp_path: Path) -> None:
    report = verify_release(release_in(tmp_path, recipe={"engine": {"warp": 9}}), NO_GPU)
    assert report.fit.reasons == ("this version of trtllm-pack does not know its engine settings",)


def test_what_is_no_tar_at_all_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: tiny\n" * 100)
    with pytest.raises(VerificationError, match="neither a release nor a tar") as caught:
        verify_release(path, NO_GPU)
    assert caught.value.hint
