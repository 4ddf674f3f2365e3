"""Two Triton model configurations compared: every value that differs, by its place in the file."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.release.triton_text import Message, Value, Word

KEYS = ("name", "key", "model_name")
"""Fields by which the messages of a repeated field are told apart."""

ENGINE_VALUES = {
    "max_batch_size": ", the engine's `max_batch_size`",
    **{
        f"parameters[{key}].value.string_value": because
        for key, because in (
            ("decoding_mode", ", which follows from the engine"),
            ("enable_chunked_context", ", which the recipe says"),
            ("enable_kv_cache_reuse", ", which follows from the recipe and paged context FMHA"),
            ("gpt_model_path", ", where the engine lies"),
            ("kv_cache_free_gpu_mem_fraction", ", which the recipe says"),
            ("lora_cache_max_adapter_size", ", the engine's `max_lora_rank`"),
            ("max_beam_width", ", the engine's `max_beam_width`"),
            ("vocab_size", ", the model's `vocab_size`"),
        )
    },
    "model_transaction_policy.decoupled": ", which the recipe says (`package.serving.streaming`)",
    "dynamic_batching.preferred_batch_size": ", the engine's `max_batch_size`",
    "input[prompt_embedding_table].data_type": ", the engine's `dtype`",
    "input[draft_logits].data_type": ", the engine's `logits_dtype`",
    "output[context_logits].data_type": ", the engine's `logits_dtype`",
    "output[generation_logits].data_type": ", the engine's `logits_dtype`",
}
"""Place of a value in a configuration -> where it comes from."""


def differences(name: str, written: Message, model: Message, same_version: bool) -> Iterator[str]:
    """Every value that is another one, missing, or one too many; by its place in the file."""
    found, expected = _flatten(written), _flatten(model)
    for place in sorted(found.keys() | expected.keys()):
        here, wanted = found.get(place, []), expected.get(place, [])
        if len(here) > 1:
            yield f"`{name}`: `{place}` is given {len(here)} times"
        elif here and wanted and here != wanted:
            because = ENGINE_VALUES.get(place, "")
            yield (
                f"`{name}`: `{place}` is {_shown(here[0])}, expected {_shown(wanted[0])}{because}"
            )
        elif same_version and not here:
            yield f"`{name}`: `{place}` is missing, expected {_shown(wanted[0])}"
        elif same_version and not wanted:
            yield f"`{name}`: `{place}` is {_shown(here[0])}, which does not belong there"


def _flatten(of: Message, path: str = "") -> dict[str, list[Value]]:
    """Values by their places, for example `input[seed].data_type`."""
    found: dict[str, list[Value]] = {}
    for name, value in of.fields:
        place = f"{path}.{name}" if path else name
        if not isinstance(value, Message):
            found.setdefault(place, []).append(value)
            continue
        key = next((field for field in KEYS if isinstance(value.one(field), str)), None)
        if key is not None:
            place = f"{place}[{value.one(key)}]"
        found.setdefault(place, []).append(Message())
        for inner, values in _flatten(value, place).items():
            found.setdefault(inner, []).extend(values)
    return found


def _shown(value: Value) -> str:
    if isinstance(value, Message):
        return "a message"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value.text}`" if isinstance(value, Word) else f"`{value}`"
