"""Tokenizer files that would end the process that loads them, or lead it out of the folder."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.checkpoint.tokenizer_file import check_tokenizer_files, tokenizer_faults
from pipeline.errors import VerificationError


def replace(content: str, **pattern: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def sequence(*steps: Any) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(steps)}


def charsmap(table: bytes) -> dict[str, Any]:
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


def template(special: dict[str, Any], *names: str) -> dict[str, Any]:
    pieces = [{"SpecialToken": {"id": name, "type_id": 0}} for name in names]
    return {
        "type": "TemplateProcessing",
        "single": [*pieces, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": special,
    }


START = {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}

SOUND = {
    "nothing": {},
    "llama": {
        "normalizer": sequence(
            {"type": "Prepend", "prepend": "\u2581"}, replace("\u2581", String=" ")
        ),
        "post_processor": template(START, "<s>"),
        "decoder": {"type": "Sequence", "decoders": [replace(" ", String="\u2581")]},
    },
    "t5": {
        "normalizer": sequence(
            charsmap(b"\x04\0\0\0" + bytes(4) + b"text"), replace(" ", Regex=" {2,}")
        )
    },
    "a dozen rules": {"normalizer": sequence(*[replace(" ", Regex=r"\\s+")] * 12)},
    "parts of odd types": {"normalizer": [], "post_processor": 5, "added_tokens": {}},
}

REFUSED = {
    "grows in steps": ({"normalizer": sequence(*[replace("aaaa", String="a")] * 9)}, "as long"),
    "grows between letters": ({"normalizer": replace("x" * 100_000, Regex="")}, "as long"),
    "grows in front": ({"normalizer": {"type": "Prepend", "prepend": "x" * 100_000}}, "as long"),
    "grows when decoded": ({"decoder": replace("x" * 200_000, String="a")}, "as long"),
    "many steps": ({"normalizer": sequence(*[{"type": "NFC"}] * 1001)}, "more than 1000"),
    "a table of 4 GB": ({"normalizer": charsmap(b"\xff" * 4)}, "damaged, or cut off"),
    "a table of nothing": ({"normalizer": charsmap(b"")}, "damaged, or cut off"),
    "a table of text": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "!"}},
        "not base 64",
    ),
    "an unknown token": ({"post_processor": template({}, "<s>")}, "is no token"),
    "endless templates": ({"post_processor": template(START, *["<s>"] * 10_001)}, "add 10001"),
    "endless tokens": ({"added_tokens": [{}] * ((1 << 17) + 1)}, "more than 131072"),
}


@pytest.mark.parametrize("document", SOUND.values(), ids=SOUND)
def test_real_ones_pass(document: dict[str, Any]) -> None:
    assert tokenizer_faults(document) == []


@pytest.mark.parametrize(("document", "told"), REFUSED.values(), ids=REFUSED)
def test_what_asks_for_too_much_is_refused(document: dict[str, Any], told: str) -> None:
    (fault,) = tokenizer_faults(document)
    assert told in fault


def check(folder: Path, config: dict[str, Any], tokenizer: str | None = "{}") -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(tokenizer)
    check_tokenizer_files(folder)


def test_leftovers_of_whoever_saved_it_are_no_fault(tmp_path: Path) -> None:
    check(tmp_path, {"special_tokens_map_file": "/root/map.json", "tokenizer_file": "/root/t.json"})


@pytest.mark.parametrize("name", ["../out/tokenizer.4.0.json", "/etc/tokenizer.4.0.json"])
def test_another_file_in_its_place_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(VerificationError, match="is refused") as refused:
        check(tmp_path, {"fast_tokenizer_files": ["tokenizer.json", name]})
    assert refused.value.facts == (
        f"`fast_tokenizer_files` of `tokenizer_config.json` names a file elsewhere, `{name}`",
    )


def test_without_one_no_key_may_lead_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(VerificationError) as refused:
        check(tmp_path, {"vocab_file": "/etc/passwd", "merges_file": "merges.txt"}, tokenizer=None)
    assert len(refused.value.facts) == 1


def test_one_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"`tokenizer\.json` is not valid JSON"):
        check(tmp_path, {}, "{")


def test_a_large_vocabulary_of_another_script_is_read(tmp_path: Path) -> None:
    vocab = {f"\u4e2d{number:0200}": number for number in range(90_000)}
    text = json.dumps({"model": {"vocab": vocab}}, ensure_ascii=False)
    assert len(text.encode()) > 16 << 20
    check(tmp_path, {}, text)
