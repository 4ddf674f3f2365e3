"""Tokens to text, for Triton's Python backend: the model `postprocessing` of this repository.

Tensors as in `config.pbtxt` beside this folder. Written by trtllm-pack; it reads the tokenizer with
transformers and executes no code of the model's authors.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

RELEASE = Path(__file__).resolve().parents[3]
"""`<release>/triton/postprocessing/1/model.py`"""


class TritonPythonModel:
    """What Triton's Python backend loads."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer; a relative `tokenizer_dir` is relative to the release."""
        from transformers import AutoTokenizer

        parameters = json.loads(args["model_config"])["parameters"]
        folder = RELEASE / parameters["tokenizer_dir"]["string_value"]
        self._skip_special = parameters["skip_special_tokens"]["string_value"] == "true"
        self._tokenizer = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request: a text for each beam of each sequence."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        tokens = pb_utils.get_input_tensor_by_name(request, "TOKENS_BATCH").as_numpy()
        lengths = pb_utils.get_input_tensor_by_name(request, "SEQUENCE_LENGTH").as_numpy()
        texts = [
            self._decode(beam[:length])
            for beams, beam_lengths in zip(tokens, lengths, strict=True)
            for beam, length in zip(beams, beam_lengths, strict=True)
        ]
        output = pb_utils.Tensor("OUTPUT", np.array(texts, dtype=np.object_))
        return pb_utils.InferenceResponse(output_tensors=[output])

    def _decode(self, tokens: Any) -> bytes:
        # An id of -1 fills up what was not generated.
        ids = [int(token) for token in tokens if token >= 0]
        text = self._tokenizer.decode(ids, skip_special_tokens=self._skip_special)
        return str(text).encode()
