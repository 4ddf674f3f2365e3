"""The tokenizer of a source checkpoint, and text that grows token by token.

Loaded by transformers from a local folder: no network, no code of the repo.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from pipeline.artifact import Json
from pipeline.checkpoint.strict_json import printable, read_object
from pipeline.checkpoint.tokenizer_file import check_tokenizer_files
from pipeline.errors import PipelineError, VerificationError

CONTEXT_TOKENS = 8
"""Prompt tokens that decoding starts from, so that a word's leading space is not lost."""

_INCOMPLETE = "\ufffd"
"""What decoders write for bytes that are no whole character."""


class Tokenizer(Protocol):
    """What is used of a transformers tokenizer."""

    eos_token_id: int | None

    def __call__(self, text: str) -> Any:
        """An object whose `input_ids` are the tokens, special ones included."""

    def decode(
        self,
        token_ids: Sequence[int],
        *,
        skip_special_tokens: bool,
        clean_up_tokenization_spaces: bool,
    ) -> str:
        """The text of some tokens."""


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a source checkpoint folder. Raises VerificationError if it is unusable."""
    check_tokenizer_files(folder)
    # Read while transformers is imported: its advice that torch is missing is none for us.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import AutoTokenizer
    from transformers.utils.logging import set_verbosity_error

    set_verbosity_error()  # what is wrong is raised, and nothing else is to stand on the terminal
    with _failing("cannot be loaded"):
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        int(tokenizer.eos_token_id or 0)  # some classes of transformers are no tokenizers
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a prompt, with the special tokens that the tokenizer adds (such as BOS).

    Raises VerificationError where the tokenizer fails on the text.
    """
    with _failing("fails on a text"):
        return [int(token_id) for token_id in tokenizer(text).input_ids]


@contextmanager
def _failing(how: str) -> Iterator[None]:
    """Whatever the libraries raise, as an error of the tokenizer's files.

    The Rust reader raises bare Exception, and what it did not foresee (a panic) as a
    BaseException of its own.
    """
    try:
        yield
    except BaseException as error:
        is_panic = type(error).__name__ == "PanicException"
        if not isinstance(error, Exception) and not is_panic:
            raise
        if isinstance(error, (PipelineError, MemoryError)):
            raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise VerificationError(
            f"the tokenizer of the source {how}: {printable(reason[0], 300)}",
            hint="it needs a `tokenizer.json` and a `tokenizer_config.json` that fit each other",
        ) from None


def end_token_ids(folder: Path, tokenizer: Tokenizer) -> frozenset[int]:
    """All tokens that end a generation, of generation_config.json, config.json and tokenizer.

    Sources disagree in practice: chat models name their end of turn in only one of these. Raises
    VerificationError where `eos_token_id` is not a token id or a list of them.
    """
    found = set() if tokenizer.eos_token_id is None else {int(tokenizer.eos_token_id)}
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        if path.is_file():
            found |= _eos_of(name, read_object(path, name))
    return frozenset(found)


def _eos_of(name: str, config: Json) -> set[int]:
    value = config.get("eos_token_id") if isinstance(config, dict) else None
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(token_id) is int for token_id in listed):
        raise VerificationError(
            f"`eos_token_id` of `{name}` is `{printable(str(value))}`, expected token ids"
        )
    return set(listed)


class TextStream:
    """The text that follows a prompt, token by token: whole characters only, up to a stop text.

    Text that could be the beginning of a stop text is held back until it is known not to be one.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stop: Sequence[str] = ()):
        self._tokenizer = tokenizer
        self._token_ids = list(prompt[-CONTEXT_TOKENS:])
        self._stop = [text for text in stop if text]
        # Tokens before `_known` are in `_decoded`; decoding starts again from `_start`.
        self._start, self._known = 0, len(self._token_ids)
        self._decoded = ""
        self._emitted = 0
        self.stopped = False

    @property
    def text(self) -> str:
        """What was emitted so far."""
        return self._decoded[: self._emitted]

    def push(self, token_id: int) -> str:
        """Append a token; the text that became certain by it, often empty."""
        assert not self.stopped
        self._token_ids.append(token_id)
        fresh = self._fresh()
        if not fresh or fresh.endswith(_INCOMPLETE):
            return ""
        self._take(fresh)
        return self._emit(len(self._decoded) - self._held())

    def finish(self) -> str:
        """What was held back; bytes that never became a character come as U+FFFD."""
        if self.stopped:
            return ""
        self._take(self._fresh())
        return self._emit(len(self._decoded))

    def _fresh(self) -> str:
        """Text of the tokens that are not in `_decoded` yet."""
        known = self._decode(self._token_ids[self._start : self._known])
        return self._decode(self._token_ids[self._start :])[len(known) :]

    def _decode(self, token_ids: Sequence[int]) -> str:
        with _failing("fails on tokens"):
            return self._tokenizer.decode(
                token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )

    def _take(self, fresh: str) -> None:
        """Append decoded text; cut it before the first stop text that it completes."""
        longest = max((len(text) for text in self._stop), default=0)
        first = max(0, len(self._decoded) - longest + 1)
        self._decoded += fresh
        self._start, self._known = self._known, len(self._token_ids)
        found = [(self._decoded.find(text, first), len(text)) for text in self._stop]
        # The first to be complete, so that it does not matter how the text was cut into tokens.
        ends = [(place + size, place) for place, size in found if place >= 0]
        if ends:
            self._decoded = self._decoded[: min(ends)[1]]
            self.stopped = True

    def _held(self) -> int:
        """Length of the longest end of the text that a stop text begins with."""
        if self.stopped:
            return 0
        return max(
            (
                size
                for text in self._stop
                for size in range(1, min(len(text), len(self._decoded) + 1))
                if self._decoded.endswith(text[:size])
            ),
            default=0,
        )

    def _emit(self, end: int) -> str:
        emitted = self._decoded[self._emitted : end]
        self._emitted = max(self._emitted, end)
        return emitted
