"""`LLM` of `tensorrt_llm._tensorrt_engine`, over engines of the stand-in `trtllm-build`.

A rank file of that ends with the rank's weights, and its config.json holds the checkpoint's: the
two make a checkpoint again, which the decoder graph executes. Source of the rules: TensorRT-LLM
1.2, llmapi/llm.py, llmapi/llm_args.py, executor/result.py.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np

from pipeline.engines.generation import Generation, Sampling
from pipeline.engines.generator import GenerationRequest
from pipeline.engines.reference import open_reference
from pipeline.recipe.schema import EngineSettings
from tests.standins.tensorrt_llm import _torch
from tests.standins.tensorrt_llm.arguments import KvCacheConfig, SamplingParams
from tests.standins.tensorrt_llm.checks import check
from tests.standins.tensorrt_llm.control import HOPPER, control, record, strike
from tests.standins.trtllm_build import weights_of

_LIMITS = ("max_batch_size", "max_num_tokens", "max_seq_len")


class LLM:
    """Takes what the real class takes of an engine folder, and nothing else."""

    def __init__(self, model: str, **given: Any) -> None:
        record(call="LLM", given={"model": model, **given})
        self.args = check("llm_arguments", "_TrtLLM", {"model": model, **given})
        cache = self.args["kv_cache_config"]
        assert isinstance(cache, KvCacheConfig), "an engine needs a stated KV cache"
        assert cache.values["dtype"] == "auto", (
            "KvCacheConfig.dtype is not supported by the TensorRT backend."
        )
        config = json.loads((Path(model) / "config.json").read_bytes())
        assert {"pretrained_config", "build_config"} <= config.keys()
        if self.args["build_config"] is not None:
            raise ValueError("The build_config is ignored for model format of TLLM_ENGINE.")
        self._check_mapping(config["pretrained_config"]["mapping"])
        self._build = config["build_config"]
        for name in _LIMITS:
            assert self.args[name] == self._build[name], f"{name} is not the engine's"
        strike("construct")
        self._folder = tempfile.TemporaryDirectory()
        self._reference = open_reference(
            _checkpoint(Path(model), config, Path(self._folder.name)),
            EngineSettings(
                **{name: self._build[name] for name in ("max_batch_size", "max_seq_len")},
                max_input_len=min(self._build["max_input_len"], self._build["max_seq_len"]),
            ),
        )

    def _check_mapping(self, mapping: dict[str, int]) -> None:
        names = {"tp": "tensor", "pp": "pipeline", "cp": "context"}
        for short, long in names.items():
            given, own = self.args[f"{long}_parallel_size"], mapping.get(f"{short}_size", 1)
            if given not in (1, own):
                raise ValueError(
                    f"{short}_size {given} is not consistent with the engine's {short}_size {own}"
                )

    def generate(
        self,
        inputs: list[list[int]],
        sampling_params: list[SamplingParams],
        use_tqdm: bool = True,
    ) -> list[Any]:
        """Whole texts, in the order of the inputs."""
        assert len(inputs) == len(sampling_params)
        record(call="generate", given=[params.given for params in sampling_params])
        strike("generate")
        requests = [
            self._request(token_ids, params)
            for token_ids, params in zip(inputs, sampling_params, strict=True)
        ]
        found = self._reference.generate(requests)
        kernels = {**HOPPER, **control().get("kernels", {})}
        _torch.launched.extend(kernels["context"])
        if any(params.values["max_tokens"] > 1 for params in sampling_params):
            _torch.launched.extend(kernels["generation"])
        return [_result(one, params) for one, params in zip(found, sampling_params, strict=True)]

    def _request(self, token_ids: list[int], params: SamplingParams) -> GenerationRequest:
        values = params.values
        if values["end_id"] is None:
            raise ValueError("tokenizer is required to reset end_id if it is None")
        if len(token_ids) + values["max_tokens"] > self._build["max_seq_len"]:
            raise ValueError(
                "The sum of prompt length and max_tokens should not exceed max_seq_len"
            )
        if values["return_context_logits"] and not self._build["gather_context_logits"]:
            raise ValueError("return_context_logits requires gather_context_logits=True")
        ends = {values["end_id"], *(values["stop_token_ids"] or [])}
        sampling = Sampling(
            values["max_tokens"],
            0.0 if params.is_greedy else values["temperature"],
            values["top_p"] or 1.0,
            values["seed"] or 0,
            frozenset() if values["ignore_eos"] else frozenset(ends),
        )
        return GenerationRequest(tuple(token_ids), sampling, values["return_context_logits"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        strike("shutdown")
        self._folder.cleanup()


def _checkpoint(engine_dir: Path, config: dict[str, Any], folder: Path) -> Path:
    """The checkpoint that an engine was built from."""
    own = dict(config["pretrained_config"])
    world_size = own["mapping"]["world_size"]
    (folder / "config.json").write_text(json.dumps(own))
    for rank in range(world_size):
        data = weights_of(engine_dir / f"rank{rank}.engine")
        (folder / f"rank{rank}.safetensors").write_bytes(data)
    return folder


def _result(one: Generation, params: SamplingParams) -> Any:
    """As `RequestOutput`: a stop token is kept where that is asked for, an end token always."""
    knobs, values = control(), params.values
    token_ids = [int(token_id) for token_id in one.token_ids]
    stop_reason = None
    if one.stop_reason == "end" and token_ids[-1] != values["end_id"]:
        stop_reason = token_ids[-1]
    if one.stop_reason == "end" and (knobs.get("strip_end") or stop_reason is not None):
        keeps = values["include_stop_str_in_output"] and not knobs.get("strip_end")
        token_ids = token_ids if keeps else token_ids[:-1]
    if "wrong_token" in knobs:
        place = knobs["wrong_token"]
        token_ids[place:] = [token_id + 1 for token_id in token_ids[place:]]
    finish = "stop" if one.stop_reason == "end" else "length"
    output = SimpleNamespace(
        token_ids=token_ids,
        finish_reason=knobs.get("finish", finish),
        stop_reason=stop_reason,
    )
    logits = None if one.prompt_logits is None else _Tensor(one.prompt_logits, knobs)
    return SimpleNamespace(outputs=[output], context_logits=logits)


class _Tensor:
    """What is used of a torch tensor."""

    def __init__(self, values: Any, knobs: dict[str, Any]) -> None:
        padding = np.zeros((len(values), knobs.get("pad_logits", 6)), dtype=values.dtype)
        self._values = np.concatenate([values + knobs.get("logit_error", 0.0), padding], axis=1)

    def float(self) -> _Tensor:
        """float32 it is already."""
        return self

    def cpu(self) -> _Tensor:
        """And on the processor."""
        return self

    def numpy(self) -> Any:
        """The array."""
        return self._values
