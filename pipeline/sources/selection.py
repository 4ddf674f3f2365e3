"""Which files of a source are needed. An allow-list: what it does not name is never read.

Pure: works on names and on the bytes of small JSON files.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import NoReturn

from pipeline.artifact import Json
from pipeline.checkpoint.huggingface import CONFIG_NAME, INDEX_NAME, SINGLE_NAME, parse_index
from pipeline.checkpoint.strict_json import listed, parse_object, printable
from pipeline.errors import RecipeError, VerificationError
from pipeline.sources.names import check_names

TOKENIZER_CONFIG_NAME = "tokenizer_config.json"

MODELOPT_NAME = "hf_quant_config.json"
QUANTIZATION_NAMES = frozenset({MODELOPT_NAME, "quant_cfg.json"})
"""How the weights are quantised, where config.json does not say it: Model-Optimizer's files
(TensorRT-LLM 1.3, `_torch/model_config.py`). Compressed-tensors, FP8 and AWQ are in config.json."""

TOKENIZER_NAMES = frozenset(
    {"tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt"}
)
"""Vocabularies: fast, slow (SentencePiece, BPE, WordPiece). A tokenizer has at least one."""

NEEDED_NAMES = (
    TOKENIZER_NAMES
    | QUANTIZATION_NAMES
    | {
        CONFIG_NAME,
        "generation_config.json",
        TOKENIZER_CONFIG_NAME,
        "special_tokens_map.json",
        "added_tokens.json",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
    }
)

LICENCE_NAME = re.compile(
    r"(LICEN[CS]E|NOTICE|COPYING|USE_POLICY)[\w-]*(\.\d+)*(\.(txt|md|rst|html|pdf))?",
    re.IGNORECASE | re.ASCII,
)
"""Licence texts at the root. A use policy is a part of the licences that name one (Llama's)."""

CHAT_TEMPLATE_FOLDER = "additional_chat_templates"
"""Chat templates beside the default one (transformers, `tokenization_utils_base.py`)."""

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
OTHER_WEIGHT_SUFFIXES = (".gguf", ".h5", ".msgpack", ".nemo", ".onnx", ".npz")

CODE_SUFFIX = ".py"

CODE_KEYS = frozenset({"auto_map", "custom_pipelines"})


def select_files(
    names: Collection[str], index: bytes | None, code: Collection[str] = ()
) -> tuple[str, ...]:
    """The needed files among `names` (relative to the root), sorted.

    `index` is the content of `model.safetensors.index.json` where that is among the names; `code`
    are the Python files that the recipe allows (`source.remote_code`), no others are chosen. Raises
    RecipeError where this is not a checkpoint that we read (pickle weights only, say), and
    VerificationError where it contradicts itself or has names that are refused.
    """
    if CONFIG_NAME not in names:
        raise RecipeError(
            f"the source has no `{CONFIG_NAME}`",
            hint="`source` must name a checkpoint in the Hugging Face layout",
        )
    missing = sorted(set(code) - set(names))
    if missing:
        raise RecipeError(
            f"`source.remote_code` names {len(missing)} files that the source does not have",
            facts=listed([f"`{name}`" for name in missing]),
            hint="remove them, or correct their names",
        )
    chosen = {name for name in names if _is_needed(name)} | _weight_files(names, index) | {*code}
    check_names(chosen, "the source")
    return tuple(sorted(chosen))


def remote_code_references(texts: Mapping[str, bytes]) -> list[str]:
    """Where configs point to Python code of the repo, one line each; empty where nothing does."""
    return [
        f"`{name}` has `{printable(key)}`: `{printable(str(value))}`"
        for name, text in sorted(texts.items())
        for key, value in _code_entries(parse_object(text, name))
    ]


def _is_needed(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    if folder == CHAT_TEMPLATE_FOLDER:
        return file.endswith(".jinja")
    return not folder and (name in NEEDED_NAMES or LICENCE_NAME.fullmatch(name) is not None)


def _weight_files(names: Collection[str], index: bytes | None) -> set[str]:
    """The index and the weight files that it names, or the single weight file."""
    if INDEX_NAME not in names:
        return {SINGLE_NAME} if SINGLE_NAME in names else _refuse_weights(names)
    assert index is not None, "the source has an index, which was not read"
    indexed = set(parse_index(index).values())
    check_names(indexed, f"`{INDEX_NAME}`")
    missing = sorted(indexed - set(names))
    if missing:
        raise VerificationError(
            f"`{INDEX_NAME}` names {len(missing)} weight files that are not there",
            facts=listed([f"`{printable(name)}`" for name in missing]),
            hint="fetch the checkpoint again, or point `source` to a complete one",
        )
    if SINGLE_NAME in names and SINGLE_NAME not in indexed:
        raise RecipeError(
            f"the source has two sets of weights: `{SINGLE_NAME}`, and those of `{INDEX_NAME}`",
            hint="point `source.path` to a copy with one of them",
        )
    return {INDEX_NAME, *indexed}


def _refuse_weights(names: Collection[str]) -> NoReturn:
    """Say what is there instead of weights that we read."""
    safetensors = sorted(name for name in names if name.endswith(".safetensors"))
    pickles = sorted(name for name in names if name.endswith(PICKLE_SUFFIXES))
    others = sorted(name for name in names if name.endswith(OTHER_WEIGHT_SUFFIXES))
    facts = listed([f"`{printable(name)}`" for name in safetensors or pickles or others])
    if safetensors:
        raise RecipeError(
            f"the source has neither `{SINGLE_NAME}` nor `{INDEX_NAME}`, so it is not known which "
            "of its safetensors files are the weights",
            facts=facts,
            hint="an adapter must be merged first; other files must be named as transformers does",
        )
    if pickles:
        raise RecipeError(
            "the source has its weights as pickle only, which can execute code and is never read",
            facts=facts,
            hint="convert them where you trust them: load with transformers, then "
            "`model.save_pretrained(folder, safe_serialization=True)`, and use `source.path`",
        )
    raise RecipeError(
        "the source has no weights in safetensors",
        facts=facts,
        hint=f"a checkpoint holds `{SINGLE_NAME}`, or `{INDEX_NAME}` and the files that it names",
    )


def _code_entries(value: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Non-empty code entries at any depth, with their key paths."""
    pairs = value.items() if isinstance(value, dict) else ()
    for key, entry in pairs:
        here = f"{path}{key}"
        if key in CODE_KEYS and entry:
            yield here, entry
        else:
            yield from _code_entries(entry, f"{here}.")
    if isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _code_entries(entry, f"{path}{number}.")
