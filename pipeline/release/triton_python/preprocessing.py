"""Text to tokens, for Triton's Python backend: the model `preprocessing` of this repository.

Tensors as in `config.pbtxt` beside this folder. Written by trtllm-pack; it reads the tokenizer with
transformers and executes no code of the model's authors.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

RELEASE = Path(__file__).resolve().parents[3]
"""`<release>/triton/preprocessing/1/model.py`"""


class TritonPythonModel:
    """What Triton's Python backend loads."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer; a relative `tokenizer_dir` is relative to the release."""
        from transformers import AutoTokenizer

        parameters = json.loads(args["model_config"])["parameters"]
        folder = RELEASE / parameters["tokenizer_dir"]["string_value"]
        self._special = parameters["add_special_tokens"]["string_value"] == "true"
        self._tokenizer = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        # The model's, which the backend compares: a tokenizer often has fewer tokens.
        self._vocab_size = int(parameters["vocab_size"]["string_value"])
        end = self._tokenizer.eos_token_id
        pad = self._tokenizer.pad_token_id
        self._end_id = -1 if end is None else int(end)
        self._pad_id = self._end_id if pad is None else int(pad)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request; what is wrong with one is told to that one alone."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            tensors = self._tensors(request)
        except (ValueError, UnicodeDecodeError) as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        outputs = [pb_utils.Tensor(name, value) for name, value in tensors.items()]
        return pb_utils.InferenceResponse(output_tensors=outputs)

    def _tensors(self, request: Any) -> dict[str, Any]:
        """Every output by name; the first dim is the batch of the request."""
        texts = [row[0].decode() for row in _read(request, "QUERY")]
        prompts = [self._encode(text, self._special) for text in texts]
        if not all(prompts):
            raise ValueError("`text_input` has no tokens")
        batch_size, lengths = len(prompts), [[len(prompt)] for prompt in prompts]
        found = {
            "INPUT_ID": _padded(prompts, max(self._pad_id, 0)),
            "REQUEST_INPUT_LEN": np.array(lengths, dtype=np.int32),
            "REQUEST_OUTPUT_LEN": _read(request, "REQUEST_OUTPUT_LEN").astype(np.int32),
            "BAD_WORDS_IDS": self._words(_read(request, "BAD_WORDS_DICT"), batch_size),
            "STOP_WORDS_IDS": self._words(_read(request, "STOP_WORDS_DICT"), batch_size),
            "EMBEDDING_BIAS": self._bias(request, batch_size),
            "OUT_END_ID": self._token(request, "END_ID", self._end_id, batch_size),
            "OUT_PAD_ID": self._token(request, "PAD_ID", self._pad_id, batch_size),
        }
        extra_ids = _read(request, "PROMPT_TABLE_EXTRA_ID")
        if extra_ids is not None:
            # Tokens from the vocabulary's end on stand for rows of the prompt-embedding table.
            virtual = found["INPUT_ID"] >= self._vocab_size
            found["OUT_PROMPT_TABLE_EXTRA_IDS"] = np.where(virtual, extra_ids, 0).astype(np.uint64)
        return found

    def _encode(self, text: str, special: bool) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=special))

    def _token(self, request: Any, name: str, own: int, batch_size: int) -> Any:
        """`[batch, 1]`: what the request says, else the tokenizer's; -1 where it has none."""
        given = _read(request, name)
        return np.full((batch_size, 1), own, np.int32) if given is None else given.astype(np.int32)

    def _words(self, words: Any, batch_size: int) -> Any:
        """`[batch, 2, n]`: tokens of all words, then where each word ends, filled up with -1."""
        if words is None:
            return np.zeros((batch_size, 2, 0), np.int32)
        rows, ends = [], []
        for row in words:
            listed = [self._encode(word.decode(), False) for word in row]
            listed = [tokens for tokens in listed if tokens]
            rows.append([token for tokens in listed for token in tokens])
            ends.append(list(np.cumsum([len(tokens) for tokens in listed], dtype=np.int32)))
        width = max(1, *map(len, rows))
        both = [_padded(rows, 0, width), _padded(ends, -1, width)]
        return np.stack(both, axis=1)

    def _bias(self, request: Any, batch_size: int) -> Any:
        """`[batch, vocabulary]`, added to the logits; `[batch, 0]` where none is asked for."""
        words, weights = (
            _read(request, name) for name in ("EMBEDDING_BIAS_WORDS", "EMBEDDING_BIAS_WEIGHTS")
        )
        if words is None or weights is None:
            return np.zeros((batch_size, 0), np.float32)
        if words.shape != weights.shape:
            raise ValueError("`embedding_bias_words` and `embedding_bias_weights` differ in number")
        bias = np.zeros((batch_size, self._vocab_size), np.float32)
        for row, (listed, values) in enumerate(zip(words, weights, strict=True)):
            for word, value in zip(listed, values, strict=True):
                for token in self._encode(word.decode(), False):
                    bias[row, token] += value
        return bias


def _read(request: Any, name: str) -> Any:
    """An input as an array with the batch first, or None."""
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _padded(rows: Sequence[Sequence[int]], filler: int, width: int | None = None) -> Any:
    """Rows of different lengths as `[batch, n]`, filled up at their ends."""
    array = np.full((len(rows), width or max(map(len, rows))), filler, np.int32)
    for number, row in enumerate(rows):
        array[number, : len(row)] = row
    return array
