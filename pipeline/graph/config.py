"""What a checkpoint's config.json says of its decoder, checked. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from pipeline.artifact import Json
from pipeline.errors import Problem, RecipeError
from pipeline.graph import architectures
from pipeline.graph.description import Decoder
from pipeline.graph.keys import Keys, general
from pipeline.graph.rotary_problems import rotary_problems


@cache
def readers() -> Mapping[str, ModuleType]:
    """Architecture -> the module of `architectures/` that reads its config.json."""
    found: dict[str, ModuleType] = {}
    for module in sorted(iter_modules(architectures.__path__), key=lambda module: module.name):
        if module.name == "shared":
            continue
        reader = import_module(f"{architectures.__name__}.{module.name}")
        for architecture in reader.ARCHITECTURES:
            assert architecture not in found, architecture
            found[architecture] = reader
    return found


def read_decoder(config: Mapping[str, Json]) -> Decoder:
    """The decoder that a `config.json` describes (format: TensorRT-LLM 1.2, `modeling_utils.py`).

    Raises RecipeError with every key that the decoder graph cannot honour.
    """
    architecture = config.get("architecture")
    reader = readers().get(str(architecture))
    if reader is None:
        known = ", ".join(f"`{name}`" for name in sorted(readers()))
        faults = [f"`architecture` is `{architecture}`; supported: {known}"]
    else:
        keys = Keys(config)
        general(keys)
        decoder: Decoder = reader.read(keys)
        faults = keys.finish()
        if not faults:
            return decoder
    raise RecipeError(
        "the decoder graph cannot express this checkpoint",
        facts=faults,
        hint="use the backend `trtllm`, or remove what is not supported from the model",
    )


def decoder_of(config: Mapping[str, Json]) -> Decoder | None:
    """The decoder, or None where the graph cannot express it (`graph_problems` says so)."""
    try:
        return read_decoder(config)
    except RecipeError:
        return None


def graph_problems(config: Mapping[str, Json], max_seq_len: int) -> list[Problem]:
    """Why no decoder graph of `max_seq_len` positions can be written, for the stage `build`."""
    try:
        decoder = read_decoder(config)
    except RecipeError as error:
        return [Problem.of("build", error)]
    problems = []
    if max_seq_len > decoder.longest_tokens:
        longest = decoder.longest_tokens
        problems.append(
            Problem(
                "build",
                f"`engine.max_seq_len` is {max_seq_len}, but {decoder.longest_because}",
                f"set `engine.max_seq_len` to at most {longest}",
            )
        )
    return problems + _rotary_problems(decoder, max_seq_len)


def _rotary_problems(decoder: Decoder, max_seq_len: int) -> list[Problem]:
    """Rotary positions for which no table can be made, each said once."""
    found: dict[Problem, None] = {}
    for attention in decoder.attentions.values():
        if attention.rotary is not None:
            found |= dict.fromkeys(rotary_problems(attention.rotary, max_seq_len))
    return list(found)
