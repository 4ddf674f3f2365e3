"""Whether a Triton model repository fits the engine of its release: every value, each with its own
message. Reads the files as they lie there, whoever wrote them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from pipeline.artifact import Json
from pipeline.errors import VerificationError
from pipeline.release.triton import CONFIG_NAME, FOLDER, repository_files
from pipeline.release.triton_differences import differences
from pipeline.release.triton_engine import ServedEngine, read_served_engine
from pipeline.release.triton_models import models
from pipeline.release.triton_parameters import reuses_kv_cache
from pipeline.release.triton_text import parse_text
from pipeline.sources.selection import TOKENIZER_NAMES
from pipeline.trtllm.triton_images import known_image_version

if TYPE_CHECKING:
    from pipeline.recipe.schema import Serving

Read = Callable[[str], bytes]
"""The bytes of a file of the release, by its name there."""


def check_repository(
    config: Mapping[str, Json],
    serving: Serving,
    names: frozenset[str],
    read: Read,
    *,
    same_version: bool = True,
) -> list[str]:
    """Every fault, one line each; empty where all fits.

    `config` is the engine's config.json, `names` are all files of the release. Not `same_version`:
    another version of this project made the release, so that values which only one of them has
    say nothing; those that both have must still agree.
    """
    try:
        engine = read_served_engine(config)
    except VerificationError as error:
        return [error.message]
    faults = [
        *_engine_faults(engine, serving),
        *_file_faults(engine, names),
        *_config_faults(engine, serving, names, read, same_version),
    ]
    return faults + (_code_faults(config, serving, names, read) if same_version else [])


def _engine_faults(engine: ServedEngine, serving: Serving) -> Iterator[str]:
    """What the engine lacks for being served so."""
    needed = {
        "a paged KV cache": engine.paged_kv_cache,
        "packed input (`remove_input_padding`)": engine.packed_input,
        "the GPT attention plugin": engine.attention_plugin,
    }
    for what, there in needed.items():
        if not there:
            yield f"the engine was built without {what}, which in-flight batching needs"
    asked = {
        "kv_cache_reuse": reuses_kv_cache(engine, serving),
        "chunked_context": serving.chunked_context,
    }
    for name, wanted in asked.items():
        if wanted and not engine.paged_context_fmha:
            yield (
                f"`package.serving.{name}` is true, but the engine was built without paged context "
                "FMHA, which it needs"
            )
    if engine.max_num_tokens < engine.max_input_len and not serving.chunked_context:
        yield (
            f"the engine takes {engine.max_num_tokens} tokens a step (`max_num_tokens`), but "
            f"prompts of {engine.max_input_len}: it needs `package.serving.chunked_context: true`"
        )
    if engine.draft_mode == "lookahead_decoding":
        yield "the engine decodes by lookahead, whose window sizes the repository does not state"
    found = known_image_version(serving.triton_image) if serving.triton_image else None
    if found is not None and found != engine.version:
        yield (
            f"`package.serving.triton_image` {serving.triton_image} has TensorRT-LLM {found}, but "
            f"the engine was built by {engine.version}: an engine loads only in its own version"
        )


def _file_faults(engine: ServedEngine, names: frozenset[str]) -> Iterator[str]:
    """Rank files and tokenizer of the release."""
    ranks = {name for name in names if re.fullmatch(r"engine/rank\d+\.engine", name)}
    wanted = {f"engine/rank{rank}.engine" for rank in range(engine.world_size)}
    for name in sorted(wanted - ranks):
        yield f"`{name}` is missing: the engine has a world size of {engine.world_size}"
    for name in sorted(ranks - wanted):
        yield f"`{name}` is one too many: the engine has a world size of {engine.world_size}"
    if not any(f"tokenizer/{name}" in names for name in TOKENIZER_NAMES):
        yield "`tokenizer/` has no tokenizer, which `preprocessing` and `postprocessing` need"


def _config_faults(
    engine: ServedEngine, serving: Serving, names: frozenset[str], read: Read, same_version: bool
) -> Iterator[str]:
    expected = {
        f"{FOLDER}/{name}/{CONFIG_NAME}": model for name, model in models(engine, serving).items()
    }
    found = {name for name in names if re.fullmatch(rf"{FOLDER}/[^/]+/{CONFIG_NAME}", name)}
    for name in sorted(found - set(expected)):
        yield f"`{name}` is of a model that this repository does not have"
    for name, model in expected.items():
        if name not in names:
            yield f"`{name}` is missing"
            continue
        try:
            written = parse_text(read(name), name)
        except VerificationError as error:
            yield error.message
            continue
        yield from differences(name, written, model, same_version)


def _code_faults(
    config: Mapping[str, Json], serving: Serving, names: frozenset[str], read: Read
) -> list[str]:
    """Files beside the configurations: there, and none but them."""
    wanted = repository_files(config, serving)
    inside = {name for name in names if name.startswith(f"{FOLDER}/")}
    others = {name for name in wanted if not name.endswith(f"/{CONFIG_NAME}")}
    faults = [f"`{name}` is missing" for name in sorted(others - inside)]
    faults += [
        f"`{name}` does not belong to the repository"
        for name in sorted(inside - set(wanted))
        if not re.fullmatch(rf"{FOLDER}/[^/]+/{CONFIG_NAME}", name)
    ]
    return faults + [
        f"`{name}` is not the code of this version"
        for name in sorted(others & inside)
        if read(name) != wanted[name]
    ]
