"""The Python models of a Triton model repository, executed as they lie in a release."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.recipe.schema import Serving
from pipeline.release.triton import repository_files
from pipeline.tokenizer import load_tokenizer
from tests.release.triton_parts import engine_config, read_by_schema, triton_schema
from tests.tiny_tokenizer import byte_fallback, write_tokenizer

NUMPY = {
    "TYPE_INT32": np.int32,
    "TYPE_FP32": np.float32,
    "TYPE_UINT64": np.uint64,
    "TYPE_STRING": np.object_,
}


class FakeTensor:
    """`pb_utils.Tensor`."""

    def __init__(self, name: str, array: Any) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        return self._array


class FakeResponse:
    """`pb_utils.InferenceResponse`."""

    def __init__(self, output_tensors: Any = (), error: Any = None) -> None:
        self.tensors = {tensor.name(): tensor.as_numpy() for tensor in output_tensors}
        self.error = error


def backend_utils() -> ModuleType:
    """A `triton_python_backend_utils` with what the models use of it."""
    module = ModuleType("triton_python_backend_utils")
    found: Any = module
    found.Tensor, found.InferenceResponse = FakeTensor, FakeResponse
    found.TritonError = lambda message: SimpleNamespace(message=message)
    found.get_input_tensor_by_name = lambda request, name: request.get(name)
    return module


def request(**inputs: Any) -> dict[str, FakeTensor]:
    return {name: FakeTensor(name, array) for name, array in inputs.items()}


def texts(*rows: str) -> Any:
    return np.array([[row.encode()] for row in rows], dtype=np.object_)


def words(*rows: list[str]) -> Any:
    return np.array([[word.encode() for word in row] for row in rows], dtype=np.object_)


class Models:
    """Both models of a release, and their configurations."""

    def __init__(self, release: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend_utils())
        for name, data in repository_files(engine_config(**changes), Serving()).items():
            (release / name).parent.mkdir(parents=True, exist_ok=True)
            (release / name).write_bytes(data)
        self._release = release
        self.configs: dict[str, Any] = {}
        self.pre, self.post = self._load("preprocessing"), self._load("postprocessing")

    def _load(self, name: str) -> Any:
        path = self._release / f"triton/{name}/1/model.py"
        spec = importlib.util.spec_from_file_location(f"served_{name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = read_by_schema((path.parents[1] / "config.pbtxt").read_bytes())
        self.configs[name] = config
        parameters = {
            key: {"string_value": value.string_value} for key, value in config.parameters.items()
        }
        model = module.TritonPythonModel()
        model.initialize({"model_config": json.dumps({"parameters": parameters})})
        return model

    def encode(self, **inputs: Any) -> Mapping[str, Any]:
        """Outputs of `preprocessing`, each as its configuration says."""
        inputs.setdefault("REQUEST_OUTPUT_LEN", np.full((len(inputs["QUERY"]), 1), 9, np.int32))
        (response,) = self.pre.execute([request(**inputs)])
        assert response.error is None, response.error.message
        self._check("preprocessing", response.tensors, len(inputs["QUERY"]))
        return response.tensors

    def _check(self, name: str, tensors: Mapping[str, Any], batch_size: int) -> None:
        outputs = {tensor.name: tensor for tensor in self.configs[name].output}
        assert tensors.keys() <= outputs.keys()
        for key, array in tensors.items():
            dims = list(outputs[key].dims)
            dtype = triton_schema().DataType.Name(outputs[key].data_type)
            assert array.dtype == NUMPY[dtype], key
            assert array.shape[0] == batch_size, key
            for size, dim in zip(array.shape[1:], dims, strict=True):
                assert dim in {-1, size}, key


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    write_tokenizer(tmp_path / "tokenizer")
    return load_tokenizer(tmp_path / "tokenizer")


@pytest.fixture
def served(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Models:
    return Models(tmp_path, monkeypatch, vocab_size=400)


def test_prompts_of_different_lengths(served: Models, tokenizer: Any) -> None:
    found = served.encode(QUERY=texts("Hello", "Hello, world"))
    for row, text in enumerate(("Hello", "Hello, world")):
        expected = tokenizer(text).input_ids
        length = found["REQUEST_INPUT_LEN"][row, 0]
        assert list(found["INPUT_ID"][row, :length]) == expected
        assert set(found["INPUT_ID"][row, length:]) <= {tokenizer.eos_token_id}
    assert found["REQUEST_OUTPUT_LEN"].tolist() == [[9], [9]]
    assert found["OUT_END_ID"].tolist() == [[tokenizer.eos_token_id]] * 2
    assert found["OUT_PAD_ID"].tolist() == [[tokenizer.eos_token_id]] * 2
    assert found["STOP_WORDS_IDS"].shape == (2, 2, 0)
    assert found["EMBEDDING_BIAS"].shape == (2, 0)
    assert "OUT_PROMPT_TABLE_EXTRA_IDS" not in found


def test_a_request_may_name_its_end(served: Models) -> None:
    ends = np.array([[7]], np.int32)
    found = served.encode(QUERY=texts("Hello"), END_ID=ends, PAD_ID=ends + 1)
    assert found["OUT_END_ID"].tolist() == [[7]]
    assert found["OUT_PAD_ID"].tolist() == [[8]]


def test_words_and_where_each_ends(served: Models, tokenizer: Any) -> None:
    found = served.encode(
        QUERY=texts("Hello", "Hello"),
        STOP_WORDS_DICT=words(["wonder", ""], ["a", "bc"]),
        BAD_WORDS_DICT=words(["x"], ["y"]),
    )

    def ids(word: str) -> list[int]:
        return list(tokenizer.encode(word, add_special_tokens=False))

    stop = found["STOP_WORDS_IDS"]
    width = max(len(ids("wonder")), len(ids("a") + ids("bc")))
    assert stop.shape == (2, 2, width)
    first, second = ids("wonder"), ids("a") + ids("bc")
    assert stop[0, 0].tolist() == first + [0] * (width - len(first))
    assert stop[0, 1].tolist() == [len(first)] + [-1] * (width - 1)
    assert stop[1, 0].tolist() == second + [0] * (width - len(second))
    ends = [len(ids("a")), len(second)]
    assert stop[1, 1].tolist() == ends + [-1] * (width - 2)
    assert found["BAD_WORDS_IDS"][1, 0, : len(ids("y"))].tolist() == ids("y")


def test_a_bias_is_as_long_as_the_models_vocabulary(served: Models, tokenizer: Any) -> None:
    found = served.encode(
        QUERY=texts("Hello"),
        EMBEDDING_BIAS_WORDS=words(["a", "b"]),
        EMBEDDING_BIAS_WEIGHTS=np.array([[2.5, -1.0]], np.float32),
    )
    bias = found["EMBEDDING_BIAS"]
    assert bias.shape == (1, 400)
    expected = {
        tokenizer.encode("a", add_special_tokens=False)[0]: 2.5,
        tokenizer.encode("b", add_special_tokens=False)[0]: -1.0,
    }
    assert {int(place): float(bias[0, place]) for place in np.flatnonzero(bias[0])} == expected


def test_rows_of_a_prompt_table_have_their_id(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A model with fewer tokens than its tokenizer: those beyond are rows of the table.
    least = max(tokenizer("Hello").input_ids)
    changes = {"max_prompt_embedding_table_size": 4, "vocab_size": least}
    served = Models(tmp_path, monkeypatch, **changes)
    extra = np.array([[42]], np.uint64)
    found = served.encode(QUERY=texts("Hello"), PROMPT_TABLE_EXTRA_ID=extra)
    ids = found["OUT_PROMPT_TABLE_EXTRA_IDS"][0].tolist()
    assert ids == [42 if token >= least else 0 for token in found["INPUT_ID"][0]]
    assert 42 in ids


def test_what_is_wrong_with_one_request_is_told_to_it_alone(served: Models) -> None:
    length = np.array([[4]], np.int32)
    good = request(QUERY=texts("Hello"), REQUEST_OUTPUT_LEN=length)
    broken = request(QUERY=np.array([[b"\xff\xfe"]], dtype=np.object_), REQUEST_OUTPUT_LEN=length)
    uneven = request(
        QUERY=texts("Hello"),
        REQUEST_OUTPUT_LEN=length,
        EMBEDDING_BIAS_WORDS=words(["a", "b"]),
        EMBEDDING_BIAS_WEIGHTS=np.array([[1.0]], np.float32),
    )
    answers = served.pre.execute([good, broken, uneven, good])
    assert [answer.error is None for answer in answers] == [True, False, False, True]
    assert "decode" in answers[1].error.message
    assert "differ in number" in answers[2].error.message


def test_a_prompt_without_tokens_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tokenizer(tmp_path / "tokenizer", byte_fallback())
    served = Models(tmp_path, monkeypatch)
    length = np.array([[4]], np.int32)
    (answer,) = served.pre.execute([request(QUERY=texts(""), REQUEST_OUTPUT_LEN=length)])
    assert answer.error.message == "`text_input` has no tokens"


def test_beams_become_texts(served: Models, tokenizer: Any) -> None:
    first = tokenizer.encode("Hello, world", add_special_tokens=False)
    second = tokenizer.encode("déjà vu", add_special_tokens=False)
    size = max(len(first), len(second)) + 3
    tokens = np.full((2, 2, size), tokenizer.eos_token_id, np.int32)
    tokens[0, 0, : len(first)] = first
    tokens[0, 1, : len(second)] = second
    tokens[1, 0, : len(second)] = second
    tokens[1, 1, :] = -1
    lengths = np.array([[len(first), len(second)], [len(second) + 1, 3]], np.int32)
    (answer,) = served.post.execute([request(TOKENS_BATCH=tokens, SEQUENCE_LENGTH=lengths)])
    output = answer.tensors["OUTPUT"]
    assert output.dtype == np.object_
    assert [text.decode() for text in output] == ["Hello, world", "déjà vu", "déjà vu", ""]


def test_text_goes_there_and_back(served: Models) -> None:
    text = "Shall I compare thee to a summer's day? \U0001f33b"
    found = served.encode(QUERY=texts(text))
    tokens = found["INPUT_ID"][:, None, :]
    (answer,) = served.post.execute(
        [request(TOKENS_BATCH=tokens, SEQUENCE_LENGTH=found["REQUEST_INPUT_LEN"])]
    )
    assert answer.tensors["OUTPUT"][0].decode() == text
