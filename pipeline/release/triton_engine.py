"""What a Triton model repository has to know of an engine: read from TensorRT-LLM's config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.artifact import Json
from pipeline.engines.trtllm.request import SPECULATIVE_MODES
from pipeline.errors import VerificationError

TRITON_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "bfloat16": "TYPE_BF16"}
"""Triton's name of a dtype (`model_config.proto`, `DataType`)."""


@dataclass(frozen=True, slots=True)
class ServedEngine:
    """Limits and features of a built engine. Lengths in tokens; `version` is TensorRT-LLM's."""

    version: str
    dtype: str
    logits_dtype: str
    vocab_size: int
    max_batch_size: int
    max_beam_width: int
    max_input_len: int
    max_seq_len: int
    max_num_tokens: int
    world_size: int
    paged_kv_cache: bool
    packed_input: bool
    attention_plugin: bool
    paged_context_fmha: bool
    lora: bool
    max_lora_rank: int
    prompt_table: bool
    draft_mode: str | None

    @property
    def features(self) -> frozenset[str]:
        """What tensors may need (`Tensor.needs`)."""
        has = {"lora": self.lora, "prompt_table": self.prompt_table}
        return frozenset(name for name, there in has.items() if there)


def read_served_engine(config: Mapping[str, Json]) -> ServedEngine:
    """From an engine's config.json (TensorRT-LLM 1.2, `builder.py`, `EngineConfig`).

    Raises VerificationError where a key is missing, or has a value that no engine has.
    """
    try:
        engine = _read(config)
    except (KeyError, TypeError, AttributeError) as error:
        raise VerificationError(
            f"the engine's `config.json` is not as TensorRT-LLM 1.2 writes it: {error!r}"
        ) from None
    for name in ("dtype", "logits_dtype"):
        if getattr(engine, name) not in TRITON_TYPES:
            raise VerificationError(
                f"the engine's `{name}` is `{getattr(engine, name)}`, which Triton has no type for"
            )
    return engine


def _read(config: Mapping[str, Json]) -> ServedEngine:
    model, build = config["pretrained_config"], config["build_config"]
    plugins = build["plugin_config"]
    draft_modes = {number: name for name, number in SPECULATIVE_MODES.items()}
    return ServedEngine(
        version=config["version"],
        dtype=model["dtype"],
        logits_dtype=model.get("logits_dtype", "float32"),
        vocab_size=model["vocab_size"],
        max_batch_size=build["max_batch_size"],
        max_beam_width=build["max_beam_width"],
        max_input_len=build["max_input_len"],
        max_seq_len=build["max_seq_len"],
        max_num_tokens=build["max_num_tokens"],
        world_size=model["mapping"]["world_size"],
        paged_kv_cache=build["kv_cache_type"].lower() == "paged",
        packed_input=plugins["remove_input_padding"],
        attention_plugin=plugins["gpt_attention_plugin"] is not None,
        paged_context_fmha=plugins["use_paged_context_fmha"] and plugins["context_fmha"],
        lora=plugins["lora_plugin"] is not None,
        max_lora_rank=build["lora_config"]["max_lora_rank"],
        prompt_table=build["max_prompt_embedding_table_size"] > 0,
        draft_mode=draft_modes[build["speculative_decoding_mode"]],
    )
