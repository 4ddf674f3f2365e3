"""Tokenizers from a local folder, end tokens, and text that grows token by token."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import VerificationError
from pipeline.tokenizer import TextStream, Tokenizer, encode, end_token_ids, load_tokenizer
from tests.tiny_tokenizer import byte_fallback, byte_level, write_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source")
    write_tokenizer(path, eos_token_id=1)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def bytes_only(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A tokenizer in which every byte is a token of its own."""
    path = tmp_path_factory.mktemp("bytes")
    write_tokenizer(path, byte_level(num_merges=0))
    return load_tokenizer(path)


def continuation(tokenizer: Tokenizer, text: str) -> list[int]:
    return encode(tokenizer, text)[1:]  # without <s>


def stream_all(stream: TextStream, token_ids: list[int]) -> list[str]:
    """What each token adds, and at the end what was held back."""
    pieces = []
    for token_id in token_ids:
        pieces.append(stream.push(token_id))
        if stream.stopped:
            break
    return [*pieces, stream.finish()]


def test_prompts_begin_with_the_special_tokens(tokenizer: Tokenizer) -> None:
    token_ids = encode(tokenizer, "The capital")
    assert token_ids[0] == 0
    assert tokenizer.decode(
        token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    ) == ("The capital")


def test_end_tokens_are_gathered(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, eos_token_id=7)
    loaded = load_tokenizer(tmp_path)
    assert end_token_ids(tmp_path, loaded) == {1, 7}
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 9]}')
    assert end_token_ids(tmp_path, loaded) == {1, 7, 9}


@pytest.mark.parametrize("value", ["</s>", [1, "</s>"], True, 1.0])
def test_a_malformed_end_token_is_an_error(tmp_path: Path, value: object) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(VerificationError, match=r"`eos_token_id` of `generation_config\.json`"):
        end_token_ids(tmp_path, load_tokenizer(tmp_path))


@pytest.mark.parametrize("text", [None, "{", '{"version": "1.0", "model": {"type": "Nothing"}}'])
def test_an_unusable_tokenizer_is_an_error(tmp_path: Path, text: str | None) -> None:
    write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.unlink() if text is None else path.write_text(text)
    told = r"`tokenizer\.json` is not valid JSON|tokenizer of the source cannot be loaded"
    with pytest.raises(VerificationError, match=told) as error:
        load_tokenizer(tmp_path)
    assert error.value.hint


def changed(folder: Path, **parts: object) -> Path:
    """Folder with a tokenizer that has other parts."""
    write_tokenizer(folder)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **parts}))
    return folder


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        # What the Rust reader did not foresee is raised as a BaseException of its own.
        (
            {
                "pre_tokenizer": {
                    "type": "Split",
                    "pattern": {"Regex": "(a+)+$"},
                    "behavior": "Isolated",
                    "invert": False,
                }
            },
            "a" * 40 + "!",
        ),
        ({"model": {"type": "Unigram", "unk_id": None, "vocab": [["q", 0.0]]}}, "zz"),
    ],
)
def test_one_that_fails_on_a_text_is_an_error(
    tmp_path: Path, parts: dict[str, object], text: str
) -> None:
    tokenizer = load_tokenizer(changed(tmp_path, **parts))
    with pytest.raises(VerificationError, match="tokenizer of the source fails on a text"):
        encode(tokenizer, text)


def test_a_class_that_is_no_tokenizer_is_an_error(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    settings = {"tokenizer_class": "RagTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(VerificationError, match="cannot be loaded"):
        load_tokenizer(tmp_path)


def test_code_of_the_source_is_never_run(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "tokenization_own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    settings = {
        "tokenizer_class": "OwnTokenizer",
        "auto_map": {"AutoTokenizer": [None, "tokenization_own.OwnTokenizer"]},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(VerificationError, match="cannot be loaded"):
        load_tokenizer(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_loading_says_nothing(folder: Path) -> None:
    code = (
        "from pathlib import Path; from pipeline.tokenizer import load_tokenizer; "
        f"load_tokenizer(Path({str(folder)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_text_is_what_follows_the_prompt(tokenizer: Tokenizer) -> None:
    whole = encode(tokenizer, "The capital of France is Paris, the sea")
    stream = TextStream(tokenizer, whole[:9])
    begun = tokenizer.decode(
        whole[:9], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    pieces = stream_all(stream, whole[9:])
    assert begun + "".join(pieces) == "The capital of France is Paris, the sea"
    assert all(pieces[:-1])  # plain text is never held back
    assert stream.text == "".join(pieces)


def test_a_leading_space_is_kept_where_decoders_strip_it(tmp_path: Path) -> None:
    made = write_tokenizer(tmp_path, byte_fallback())
    loaded = load_tokenizer(tmp_path)
    prompt, new = [0, made.token_to_id("▁is")], [made.token_to_id("▁Paris")] * 2
    assert loaded.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False) == (
        "Paris Paris"
    )
    assert stream_all(TextStream(loaded, prompt), new) == [" Paris", " Paris", ""]


def test_characters_are_whole(bytes_only: Tokenizer) -> None:
    token_ids = continuation(bytes_only, "é🙂x")
    assert len(token_ids) == 7
    pieces = stream_all(TextStream(bytes_only, [0]), token_ids)
    assert pieces == ["", "é", "", "", "", "🙂", "x", ""]


def test_byte_fallback_characters_are_whole(tmp_path: Path) -> None:
    made = write_tokenizer(tmp_path, byte_fallback())
    loaded = load_tokenizer(tmp_path)
    token_ids = [made.token_to_id(f"<0x{byte:02X}>") for byte in "ü€".encode()]
    pieces = stream_all(TextStream(loaded, [0, made.token_to_id("▁is")]), token_ids)
    assert pieces == ["", "ü", "", "", "€", ""]


def test_a_character_that_never_ends_comes_last(bytes_only: Tokenizer) -> None:
    token_ids = continuation(bytes_only, "a🙂")[:-1]
    stream = TextStream(bytes_only, [0])
    assert stream_all(stream, token_ids) == ["a", "", "", "", "\ufffd"]
    assert stream.text == "a\ufffd"


def test_a_stop_text_across_tokens_is_never_shown(bytes_only: Tokenizer) -> None:
    stream = TextStream(bytes_only, [0], stop=("\n\n", "END"))
    pieces = stream_all(stream, continuation(bytes_only, "one EN two\nE\n\nthree"))
    assert "".join(pieces) == stream.text == "one EN two\nE"
    assert stream.stopped
    assert pieces[4:8] == ["", "", "EN ", "t"]  # held while it could have become `END`


def test_the_first_stop_text_wins_within_one_token(tokenizer: Tokenizer) -> None:
    (token_id,) = continuation(tokenizer, " capital")
    stream = TextStream(tokenizer, [0], stop=("tal", "capit", "pi"))
    assert stream.push(token_id) == " ca"  # `pi` is complete before `capit`, which begins earlier
    assert stream.stopped
    assert stream.finish() == ""


def test_held_text_comes_at_the_end(bytes_only: Tokenizer) -> None:
    stream = TextStream(bytes_only, [0], stop=("END",))
    assert stream_all(stream, continuation(bytes_only, "the EN")) == [*"the ", "", "", "EN"]
    assert not stream.stopped


def test_special_tokens_are_not_text(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer, [0])
    sea = continuation(tokenizer, " sea")
    assert "".join(stream_all(stream, [*sea, 1, *sea])) == " sea sea"


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=30), stop=st.lists(st.text(min_size=1, max_size=3), max_size=3))
def test_any_text_is_streamed_up_to_its_first_stop(
    tokenizer: Tokenizer, text: str, stop: list[str]
) -> None:
    stream = TextStream(tokenizer, [0], stop)
    ends = [(text.find(each) + len(each), text.find(each)) for each in stop if each in text]
    pieces = stream_all(stream, continuation(tokenizer, text))
    assert "".join(pieces) == stream.text == (text[: min(ends)[1]] if ends else text)
    assert stream.stopped == bool(ends)
