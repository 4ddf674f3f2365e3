"""The package stage: what a release holds, and that nothing else can change its bytes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.artifact import Artifact, describe
from pipeline.errors import VerificationError
from pipeline.plan import Plan
from pipeline.progress import Silent
from pipeline.recipe.schema import EngineSettings, Package, Recipe, Source
from pipeline.release.folder import write_folder
from pipeline.sources.listing import SourceFile, SourceListing
from pipeline.stages.package import STAGE
from pipeline.store import Store
from tests.command import child_environment
from tests.release.made import BUILD, SMOKE, SOURCE, made_before, publish, source_files

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def plan_for(
    *,
    source: Mapping[str, str] = SOURCE,
    where: str = "a/folder",
    commit: str | None = None,
    formats: tuple[str, ...] = ("tar",),
    backend: str = "onnxruntime",
    tools: Mapping[str, str] | None = None,
) -> Plan:
    """The parts of a plan that the stage reads."""
    origin = Source(path=where) if commit is None else Source(repo=where, revision="main")
    recipe = Recipe(
        name="tiny",
        source=origin,
        engine=EngineSettings(backend=cast(Any, backend), targets=("sm89",)),
        package=Package(formats=cast(Any, formats)),
    )
    files = tuple(SourceFile(each["name"], each["size_bytes"]) for each in source_files(source))
    listing = SourceListing("local" if commit is None else "hub", where, commit, files)
    return cast(
        Plan,
        SimpleNamespace(
            recipe=recipe,
            source=SimpleNamespace(listing=listing),
            build_tools=dict(tools or {"onnx": "1.23.2"}),
        ),
    )


def _origin(plan: Plan) -> tuple[str | None, str | None]:
    listing = plan.source.listing
    return (listing.where if listing.kind == "hub" else None), listing.commit


def package(folder: Path, plan: Plan | None = None, source: Mapping[str, str] = SOURCE) -> Artifact:
    """The published package artifact of a store in `folder`."""
    plan = plan or plan_for(source=source)
    store = Store(folder / "store")
    inputs = made_before(store, source, *_origin(plan))
    keys = {name: artifact.key for name, artifact in inputs.items()}
    key = STAGE.key(plan, keys)
    assert key is not None
    with store.session() as session, session.working_folder("package", key) as work:
        facts = STAGE.run(plan, inputs, work, Silent())
        return session.publish(work, describe(work, "package", key, keys, facts))


def test_the_release_holds_every_part(tmp_path: Path) -> None:
    release = package(tmp_path).path / "tiny"
    names = {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()}
    assert names == {
        "LICENSE",
        "README.md",
        "SHA256SUMS",
        "engine/attention.json",
        "engine/decoder.onnx",
        "engine/engine.json",
        "engine/rank0.safetensors",
        "generation_config.json",
        "ledger.json",
        "manifest.json",
        "parity.json",
        "smoke.json",
        "source_config.json",
        "tokenizer/additional_chat_templates/tools.jinja",
        "tokenizer/chat_template.jinja",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
    }
    assert (release / "engine/decoder.onnx").read_text() == BUILD["decoder.onnx"]
    assert (release / "tokenizer/tokenizer.json").read_text() == SOURCE["tokenizer.json"]


def test_big_files_are_linked_not_copied(tmp_path: Path) -> None:
    release = package(tmp_path).path / "tiny"
    (built,) = (tmp_path / "store/artifacts/build").glob("*/rank0.safetensors")
    assert (release / "engine/rank0.safetensors").stat().st_ino == built.stat().st_ino


def test_the_manifest_tells_all_and_lists_every_file(tmp_path: Path) -> None:
    plan = plan_for(where="acme/tiny", commit=COMMIT)
    artifact = package(tmp_path, plan)
    release = artifact.path / "tiny"
    manifest = json.loads((release / "manifest.json").read_text())
    assert manifest["recipe"]["source"] == {"repo": "acme/tiny", "revision": COMMIT}
    assert manifest["recipe"]["engine"]["max_batch_size"] == 8
    assert manifest["lock"]["source"]["commit"] == COMMIT
    assert [file["path"] for file in manifest["lock"]["source"]["files"]] == sorted(SOURCE)
    assert manifest["lock"]["tools"]["onnx"] == "1.23.2"
    assert set(manifest["stage_keys"]) == set(STAGE.inputs)
    assert manifest["attention"]["built"]["status"] == "fused"
    assert manifest["smoke"]["prompts"][0]["text"] == SMOKE["prompts"][0]["text"]
    assert manifest["licence"] == {"files": ["LICENSE"], "status": "from the source"}
    for file in manifest["files"]:
        data = (release / file["path"]).read_bytes()
        assert (file["size_bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_an_engine_that_changed_since_its_proof_is_not_handed_out(tmp_path: Path) -> None:
    inputs = made_before(Store(tmp_path / "store"))
    file = inputs["build"].path / inputs["build"].manifest.files[-1].path
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    with pytest.raises(VerificationError, match="is damaged") as caught:
        STAGE.run(plan_for(), inputs, tmp_path, Silent())
    assert file.name in caught.value.facts[0]


def test_the_tools_of_the_system_agree(tmp_path: Path) -> None:
    artifact = package(tmp_path)
    release = artifact.path / "tiny"
    subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=release, check=True)
    assert len((release / "SHA256SUMS").read_text().splitlines()) == 16
    with tarfile.open(artifact.path / "tiny.tar") as tar:
        members = {member.name: member for member in tar.getmembers()}
        data = tar.extractfile("tiny/manifest.json")
        assert data is not None
        assert data.read() == (release / "manifest.json").read_bytes()
    assert {(m.uid, m.gid, m.uname, m.gname) for m in members.values()} == {(0, 0, "", "")}
    assert {(m.isdir(), m.mode) for m in members.values()} == {(False, 0o644), (True, 0o755)}
    assert len({m.mtime for m in members.values()}) == 1
    listed = subprocess.run(
        ["tar", "-tf", artifact.path / "tiny.tar"], capture_output=True, text=True, check=True
    )
    assert len(listed.stdout.splitlines()) == len(members)
    assert listed.stderr == ""


def test_facts_and_summary(tmp_path: Path) -> None:
    artifact = package(tmp_path)
    tar = (artifact.path / "tiny.tar").read_bytes()
    assert artifact.facts["tar_sha256"] == hashlib.sha256(tar).hexdigest()
    assert artifact.facts["tar_bytes"] == len(tar)
    assert artifact.facts["num_files"] == 17
    summary = STAGE.summary(artifact.facts)
    assert summary.startswith("tiny: 17 files, ")
    assert summary.endswith("; licence LICENSE")


def test_without_a_tar(tmp_path: Path) -> None:
    artifact = package(tmp_path, plan_for(formats=()))
    assert not list(artifact.path.glob("*.tar"))
    assert "tar" not in artifact.facts
    assert "tar" not in STAGE.summary(artifact.facts)


def test_a_source_without_a_licence_is_said(tmp_path: Path) -> None:
    source = {name: text for name, text in SOURCE.items() if name != "LICENSE"}
    artifact = package(tmp_path, source=source)
    manifest = json.loads((artifact.path / "tiny/manifest.json").read_text())
    assert manifest["licence"] == {"files": [], "status": "not in the source"}
    assert STAGE.summary(artifact.facts).endswith("licence not in the source")
    assert "no licence file" in (artifact.path / "tiny/README.md").read_text()


def test_how_weights_are_quantised_is_no_part_of_the_tokenizer(tmp_path: Path) -> None:
    source = {**SOURCE, "hf_quant_config.json": "{}"}
    release = package(tmp_path, source=source).path / "tiny"
    assert not list(release.rglob("hf_quant_config.json"))


def test_the_place_of_a_local_source_does_not_count(tmp_path: Path) -> None:
    first, second = plan_for(where="here"), plan_for(where="/somewhere/else")
    assert STAGE.settings(first) == STAGE.settings(second)
    assert "somewhere" not in json.dumps(STAGE.settings(second))


def test_what_the_manifest_holds_is_in_the_key(tmp_path: Path) -> None:
    plans = [
        plan_for(),
        plan_for(formats=()),
        plan_for(where="acme/tiny", commit=COMMIT),
        plan_for(tools={"onnx": "1.24"}),
    ]
    inputs = {name: artifact.key for name, artifact in made_before(Store(tmp_path)).items()}
    assert len({STAGE.key(plan, inputs) for plan in plans}) == len(plans)


RUN = """
import os, pathlib, sys, time
os.umask(int(sys.argv[2], 8))
from tests.stages.test_package import package
artifact = package(pathlib.Path(sys.argv[1]))
print((artifact.path / "tiny.tar").as_posix(), artifact.key)
"""


def test_equal_bytes_under_another_umask_locale_zone_folder_and_time(tmp_path: Path) -> None:
    tars, keys = [], set()
    for number, (umask, environment) in enumerate(
        [
            ("022", {"LC_ALL": "C", "TZ": "UTC"}),
            ("077", {"LC_ALL": "C.UTF-8", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7"}),
            ("000", {"LC_ALL": "de_DE.UTF-8", "SOURCE_DATE_EPOCH": "1700000000"}),
        ]
    ):
        folder = tmp_path / ("a folder " * number + "x")
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", RUN, folder, umask],
            cwd=folder,
            env=child_environment(**environment),
            capture_output=True,
            text=True,
            check=True,
        )
        path, key = done.stdout.rsplit(maxsplit=1)
        tars.append(Path(path).read_bytes())
        keys.add(key)
        for inner in [*Path(path).parent.rglob("*")]:
            os.utime(inner, (number, number))
    assert tars[0] == tars[1] == tars[2]
    assert len(keys) == 1


@pytest.mark.parametrize("word", ["Expectations: all 1 hold", "sha256sum -c", "    # lies"])
def test_the_readme(tmp_path: Path, word: str) -> None:
    text = (package(tmp_path).path / "tiny/README.md").read_text()
    assert word in text
    assert "\n# lies" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"bytes_pinned": True}, "give the same release, byte for byte."),
        ({"bytes_pinned": False}, "give the same release but for the bytes of the engine"),
    ],
)
def test_the_readme_says_whether_the_engine_can_be_rebuilt(
    tmp_path: Path, facts: dict[str, bool], sentence: str
) -> None:
    inputs = made_before(Store(tmp_path / "store"))
    inputs["build"] = publish(Store(tmp_path / "other"), "build", BUILD, facts)
    write_folder(tmp_path, inputs, name="tiny", recipe={}, tools={}, progress=Silent())
    assert sentence in (tmp_path / "README.md").read_text()
    assert json.loads((tmp_path / "manifest.json").read_text())["build"] == facts
