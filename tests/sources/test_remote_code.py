"""Code of a source: parsed, held against the recipe, never executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hub_emulator import HubEmulator
from tiny_source import REPO

from pipeline.errors import PipelineError, RecipeError, VerificationError
from pipeline.progress import Silent
from pipeline.recipe.schema import Source
from pipeline.sources import LocalSource, RemoteSource, open_source
from pipeline.sources.digest_memory import DigestMemory
from pipeline.sources.remote_code import check_code, check_code_folder

CONFIG = {"auto_map": {"AutoConfig": "conf.C", "AutoModelForCausalLM": "model.M"}}
FILES: dict[str, bytes] = {
    "conf.py": b"from transformers import PretrainedConfig\nclass C(PretrainedConfig): pass\n",
    "model.py": b"import torch\nfrom .conf import C\ndef f():\n    from .deep import g\n",
    "deep.py": b"raise SystemExit('executed')\nfrom . import conf\n",
}


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(code).hexdigest() for name, code in files.items()}


def check(files: Mapping[str, bytes], config: Mapping[str, Any] = CONFIG) -> None:
    check_code(digests(files), config, files.__getitem__)


def test_all_that_is_needed_is_named() -> None:
    check(FILES)
    tokenizer = {**CONFIG["auto_map"], "AutoTokenizer": ["tok.T", None]}
    check(FILES, {"auto_map": tokenizer})


def test_files_in_folders() -> None:
    files = {"conf.py": b"", "a/b.py": b"from ..conf import C\nfrom .c import x\n", "a/c.py": b""}
    check(files, {"auto_map": {"AutoModelForCausalLM": "a.b.M"}})


@pytest.mark.parametrize("missing", FILES)
def test_a_file_that_is_not_named(missing: str) -> None:
    files = {name: code for name, code in FILES.items() if name != missing}
    with pytest.raises(RecipeError, match="does not name") as caught:
        check(files)
    assert missing in caught.value.facts[0]


def test_a_file_that_nothing_needs() -> None:
    with pytest.raises(RecipeError, match="nothing needs") as caught:
        check({**FILES, "more.py": b""})
    assert caught.value.facts == ("`more.py`",)


def test_other_bytes() -> None:
    with pytest.raises(VerificationError, match="is not what") as caught:
        check_code(digests(FILES), CONFIG, {**FILES, "model.py": b"import os"}.__getitem__)
    assert "`model.py`: SHA-256" in caught.value.facts[0]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "has no `auto_map`"),
        ({"auto_map": []}, "has no `auto_map`"),
        ({"auto_map": {"AutoConfig": "conf.C"}}, "AutoModelForCausalLM"),
        ({"auto_map": {"AutoModelForCausalLM": "x/y--model.M"}}, "expected a class"),
        ({"auto_map": {"AutoModelForCausalLM": "../model.M"}}, "expected a class"),
        ({"auto_map": {"AutoModelForCausalLM": "model"}}, "expected a class"),
        ({"auto_map": {"AutoModelForCausalLM": ["model.M"]}}, "expected a class"),
        ({"auto_map": {"AutoModelForCausalLM": None}}, "expected a class"),
    ],
)
def test_references_that_lead_nowhere(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        check(FILES, config)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (b"from ..x import y", "outside of the source"),
        (b"from .missing import y", "does not name"),
        (b"from . import missing", "does not name"),
        (b"def f(:", "is not Python"),
        (b"\0", "is not Python"),
        (b"(" * 100_000, "is not Python"),
        (b"-" * 500_000 + b"1", "is not Python"),
        (b"#" * (2 << 20), "more than 1048576"),
    ],
)
def test_code_that_is_refused(code: bytes, reason: str) -> None:
    with pytest.raises(PipelineError) as caught:
        check({"conf.py": b"", "model.py": b"from .conf import C\n" + code})
    assert reason in caught.value.message


def test_the_last_look_at_a_folder(tmp_path: Path) -> None:
    for name, code in FILES.items():
        (tmp_path / name).write_bytes(code)
    check_code_folder(digests(FILES), tmp_path)
    (tmp_path / "more.py").touch()
    with pytest.raises(VerificationError, match="other Python files") as caught:
        check_code_folder(digests(FILES), tmp_path)
    assert caught.value.facts == ("`more.py`",)
    (tmp_path / "more.py").unlink()
    (tmp_path / "model.py").write_bytes(b"import os")
    with pytest.raises(VerificationError, match="is not what"):
        check_code_folder(digests(FILES), tmp_path)


def opened(folder: Path, code: Mapping[str, str]) -> LocalSource:
    source = Source(path=folder.name, remote_code=dict(code))
    memory = DigestMemory(folder.parent / "store")
    found = open_source(source, folder.parent, memory, offline=True)
    assert isinstance(found, LocalSource)
    return found.hashed()


def test_named_files_alone_are_of_the_source(folder: Path) -> None:
    for name, code in FILES.items():
        (folder / name).write_bytes(code)
    assert not [file for file in opened(folder, {}).listing.files if file.name.endswith(".py")]
    chosen = opened(folder, digests({"conf.py": FILES["conf.py"]})).listing
    assert [file.name for file in chosen.files if file.name.endswith(".py")] == ["conf.py"]
    assert chosen.identity() != opened(folder, {}).listing.identity()
    with pytest.raises(RecipeError, match="does not have"):
        opened(folder, {"gone.py": "0" * 64})


@pytest.mark.parametrize("target", ["../secret.py", "/etc/passwd"])
def test_code_behind_a_link_is_refused(target: str, folder: Path) -> None:
    (folder.parent / "secret.py").write_bytes(b"")
    (folder / "conf.py").symlink_to(target)
    with pytest.raises(VerificationError, match="outside of its folder"):
        opened(folder, {"conf.py": "0" * 64})


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"repo": "a/b"}, "needs a full commit"),
        ({"repo": "a/b", "revision": "main"}, "needs a full commit"),
        ({"repo": "a/b", "revision": COMMIT[:12]}, "needs a full commit"),
        ({"repo": "a/b", "revision": COMMIT.upper()}, "needs a full commit"),
    ],
)
def test_a_moving_revision_is_refused(source: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Source(**source, remote_code={"m.py": "0" * 64})  # type: ignore[arg-type]
    assert Source(repo="a/b", revision=COMMIT, remote_code={"m.py": "0" * 64}).remote_code


@pytest.mark.parametrize(
    "code",
    [
        {"../m.py": "0" * 64},
        {"/m.py": "0" * 64},
        {"m.pyc": "0" * 64},
        {"m": "0" * 64},
        {"a//m.py": "0" * 64},
        {"a/./m.py": "0" * 64},
        {"m.py\n": "0" * 64},
        {"x" * 300 + ".py": "0" * 64},
        {"m.py": "0" * 63},
        {"m.py": "A" * 64},
        {"m.py": "0" * 64 + "\n"},
        {"m.py": ""},
        {f"m{number}.py": "0" * 64 for number in range(51)},
    ],
)
def test_names_and_digests_that_are_none(code: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="remote_code"):
        Source(path="x", remote_code=code)


def test_named_code_is_fetched_and_held_against_the_recipe(
    hub: HubEmulator,
    open_repo: Callable[..., RemoteSource],
    files: dict[str, bytes],
    tmp_path: Path,
) -> None:
    """Of a repo: the named files alone, compared with the hub and then with the recipe."""
    config = json.dumps({"architectures": ["LlamaForCausalLM"], **CONFIG}).encode()
    hub.add(REPO, {**files, **FILES, "config.json": config, "more.py": b"raise SystemExit"})
    opened = open_repo(code=FILES)
    check_code(digests(FILES), opened.checkpoint().config, opened.read_text)
    out = tmp_path / "out"
    out.mkdir()
    opened.fetch(out, Silent())
    check_code_folder(digests(FILES), out)
    assert not [path for path in hub.paths() if path.endswith("more.py")]
    other = digests({**FILES, "deep.py": b"other"})
    with pytest.raises(VerificationError, match="is not what"):
        check_code(other, opened.checkpoint().config, opened.read_text)
    with pytest.raises(RecipeError, match="does not have"):
        open_repo(code=["gone.py"])
