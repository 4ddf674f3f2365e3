"""The `config.pbtxt` of each model of a Triton model repository, from the engine that it serves.

Source: TensorRT-LLM, read at 1.3.0rc3 (soon after 1.2),
`triton_backend/all_models/inflight_batcher_llm`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.release.triton_engine import TRITON_TYPES, ServedEngine
from pipeline.release.triton_parameters import TOKENIZER_PATH, llm_parameters
from pipeline.release.triton_tensors import (
    ENSEMBLE_INPUTS,
    ENSEMBLE_OUTPUTS,
    LLM_INPUTS,
    LLM_OUTPUTS,
    LLM_STEP,
    LOGITS,
    MODEL,
    POSTPROCESSING_INPUTS,
    POSTPROCESSING_OUTPUTS,
    POSTPROCESSING_STEP,
    PREPROCESSING_INPUTS,
    PREPROCESSING_OUTPUTS,
    PREPROCESSING_STEP,
    Tensor,
)
from pipeline.release.triton_text import Message, Value, Word, message

if TYPE_CHECKING:
    from pipeline.recipe.schema import Serving


def models(engine: ServedEngine, serving: Serving) -> dict[str, Message]:
    """Model name -> its configuration."""
    return {
        "ensemble": _ensemble(engine),
        "postprocessing": _postprocessing(engine),
        "preprocessing": _preprocessing(engine),
        "tensorrt_llm": _llm(engine, serving),
    }


def _llm(engine: ServedEngine, serving: Serving) -> Message:
    queue = message(
        preferred_batch_size=(engine.max_batch_size,),
        max_queue_delay_microseconds=0,
        default_queue_policy=message(max_queue_size=0),
    )
    head = [
        *_head("tensorrt_llm", "tensorrtllm", engine),
        ("model_transaction_policy", message(decoupled=serving.streaming)),
        ("dynamic_batching", queue),
    ]
    return Message(
        (
            *head,
            *_tensors(LLM_INPUTS, LLM_OUTPUTS, engine, every=True),
            *_instances(),
            *_parameters(llm_parameters(engine, serving)),
        )
    )


def _preprocessing(engine: ServedEngine) -> Message:
    parameters = {
        "add_special_tokens": "true",
        "tokenizer_dir": TOKENIZER_PATH,
        "vocab_size": str(engine.vocab_size),
    }
    return Message(
        (
            *_head("preprocessing", "python", engine),
            ("dynamic_batching", message()),
            *_tensors(PREPROCESSING_INPUTS, PREPROCESSING_OUTPUTS, engine),
            *_instances(),
            *_parameters(parameters),
        )
    )


def _postprocessing(engine: ServedEngine) -> Message:
    return Message(
        (
            *_head("postprocessing", "python", engine),
            ("dynamic_batching", message()),
            *_tensors(POSTPROCESSING_INPUTS, POSTPROCESSING_OUTPUTS, engine),
            *_instances(),
            *_parameters({"skip_special_tokens": "true", "tokenizer_dir": TOKENIZER_PATH}),
        )
    )


def _ensemble(engine: ServedEngine) -> Message:
    absent = _absent(engine)
    steps = (
        _step("preprocessing", PREPROCESSING_STEP, absent),
        _step("tensorrt_llm", LLM_STEP, absent),
        _step("postprocessing", POSTPROCESSING_STEP, absent),
    )
    return Message(
        (
            ("name", "ensemble"),
            ("platform", "ensemble"),
            ("max_batch_size", engine.max_batch_size),
            *_tensors(ENSEMBLE_INPUTS, ENSEMBLE_OUTPUTS, engine),
            ("ensemble_scheduling", Message(tuple(("step", step) for step in steps))),
        )
    )


def _head(name: str, backend: str, engine: ServedEngine) -> tuple[tuple[str, Value], ...]:
    return (("name", name), ("backend", backend), ("max_batch_size", engine.max_batch_size))


def _tensors(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], engine: ServedEngine, every: bool = False
) -> list[tuple[str, Value]]:
    """`every`: also those that need what the engine has not; the backend knows them all."""
    found: list[tuple[str, Value]] = []
    for field, tensors in (("input", inputs), ("output", outputs)):
        found += [
            (field, _tensor(tensor, engine))
            for tensor in tensors
            if every or tensor.needs is None or tensor.needs in engine.features
        ]
    return found


def _tensor(tensor: Tensor, engine: ServedEngine) -> Message:
    decided = {LOGITS: engine.logits_dtype, MODEL: engine.dtype}
    dtype = decided.get(tensor.dtype)
    name = f"TYPE_{tensor.dtype}" if dtype is None else TRITON_TYPES[dtype]
    fields: list[tuple[str, Value]] = [
        ("name", tensor.name),
        ("data_type", Word(name)),
        ("dims", tensor.dims),
    ]
    if tensor.scalar:
        fields.append(("reshape", message(shape=())))
    if tensor.ragged:
        fields.append(("allow_ragged_batch", True))
    if tensor.optional:
        fields.append(("optional", True))
    return Message(tuple(fields))


def _step(
    name: str, maps: tuple[Mapping[str, str], Mapping[str, str]], absent: frozenset[str]
) -> Message:
    """A step of the ensemble, less what has no tensor in the ensemble."""
    fields: list[tuple[str, Value]] = [("model_name", name), ("model_version", -1)]
    for field, names in zip(("input_map", "output_map"), maps, strict=True):
        for key, value in names.items():
            if value not in absent:
                fields.append((field, message(key=key, value=value)))
    return Message(tuple(fields))


def _absent(engine: ServedEngine) -> frozenset[str]:
    """Tensors of the ensemble that need what the engine has not."""
    names = [
        tensor.name
        for tensor in (*ENSEMBLE_INPUTS, *PREPROCESSING_OUTPUTS)
        if tensor.needs is not None and tensor.needs not in engine.features
    ]
    return frozenset(PREPROCESSING_STEP[1].get(name, name) for name in names)


def _instances() -> tuple[tuple[str, Value], ...]:
    """One instance: in-flight batching shares the engine among all requests."""
    return (("instance_group", message(count=1, kind=Word("KIND_CPU"))),)


def _parameters(values: Mapping[str, str]) -> list[tuple[str, Value]]:
    return [
        ("parameters", message(key=key, value=message(string_value=values[key])))
        for key in sorted(values)
    ]
