"""Where the model of an engine comes from, and what its recipe is called."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

from pipeline.migration.downloads import REPO, Download, full_name
from pipeline.migration.draft import Draft
from pipeline.migration.programs import Given, Invocation
from pipeline.migration.workflow import RANKS_FOLDER, Engine, flag_of, folder_of

_FOLDERS = frozenset({
    "tmp", "temp", "model", "models", "hf_models", "hf-models", "checkpoint", "checkpoints",
    "ckpt", "ckpts", "data", "weights", "hf", "llama", "qwen", "gemma", "falcon", "gpt",
    "output", "outputs", "engines", "trt_models", "downloads",
})  # fmt: skip
"""First parts of relative paths that look like `owner/name` and are folders."""

_OTHER_FAMILIES = frozenset({
    "enc_dec", "whisper", "bert", "dit", "mmdit", "stdit", "vit", "mllama", "sdxl", "unet",
    "multimodal", "nougat",
})  # fmt: skip
_SAYS_NOTHING = re.compile(
    r"[0-9]+-?gpus?|b?fp?[0-9]+|int[48]|[tp]p[0-9].*|(trt[_-])?engines?|outputs?|hf|tmp|[0-9.]+"
)
"""Folders that are called by a type or a layout, not by a model."""

_OTHER_FORMATS = (".nemo", ".qnemo", ".pt", ".pth", ".bin", ".npz", ".ckpt", ".gguf")
"""Ends of files that converters took where a recipe wants a folder."""

_DRAFTING = frozenset({"medusa", "eagle", "redrafter"})


def settle_source(
    draft: Draft, engine: Engine, downloads: Sequence[Download], source: str | None
) -> None:
    """Set `source.repo` or `source.path`. `source`: what the user names instead."""
    _check_family(draft, engine.converter or engine.build)
    given = _model_flag(draft, engine, source)
    _settle_form(draft)
    if source is not None:
        why = f"`--source {source}` is taken"
        if given is not None:
            draft.answer(given, "renamed", why)
        _set_named(draft, source)
    elif given is None:
        draft.set(
            "source.path", None, "nothing says what is converted: write it here, or give `--source`"
        )
    elif given.unknown:
        draft.not_known(given, "source.path")
        draft.set("source.path", None, given.shown)
    else:
        _set_given(draft, given, engine, downloads)


def _model_flag(draft: Draft, engine: Engine, source: str | None) -> Given | None:
    """The flag that names the source: the converter's, or that of a build without one."""
    given = flag_of(engine.converter, "~model_dir") or flag_of(engine.build, "~model_dir")
    for other in draft.facts.pop("~model_dir", []):
        if other != given:
            draft.answer(other, "decided", "it is what the converter wrote")
    for other in draft.facts.pop("~checkpoint_dir", []):
        if engine.is_matched and engine.converter is not None:
            draft.answer(other, "decided", "it is what the converter wrote")
        elif engine.converter is None and source is not None:
            draft.answer(other, "decided", f"it is converted from `{source}`")
        elif engine.converter is None:
            draft.answer(other, "not known", "the script does not say what it was converted from")
        else:
            written = folder_of(engine.converter, "~output_dir")
            draft.answer(other, "contradictory", f"the converter wrote `{written}`")
    for other in draft.facts.pop("~output_dir", []):
        draft.answer(other, "decided", _written(engine, other))
    return given


def _written(engine: Engine, given: Given) -> str:
    """Where a checkpoint or an engine goes instead of the folder that a flag names."""
    of_build = engine.build is not None and given.program == engine.build.script
    what, stage = ("engine", "build") if of_build else ("checkpoint", "convert")
    return f"the {what} goes to the store: `{stage} --out DIR` places it in a folder too"


def _check_family(draft: Draft, invocation: Invocation | None) -> None:
    """Scripts for models that are no decoders are named, and leave the recipe open."""
    if invocation is None or invocation.family is None:
        return
    if invocation.family in _OTHER_FAMILIES:
        why = "only decoders are converted"
    elif invocation.family in _DRAFTING:
        why = "this version does not convert the heads or models that draft tokens"
    else:
        return
    shown = f"{invocation.family}/{invocation.script}"
    given = Given(invocation.script, shown, shown, None, (), invocation.command.line)
    draft.answer(given, "not in this version", why)


def _settle_form(draft: Draft) -> None:
    if given := draft.weigh("~ckpt_type"):
        is_hf = [value.text for value in given.values] == ["hf"]
        why = "only checkpoints in the format of Hugging Face are read"
        draft.answer(given, "no effect" if is_hf else "not in this version", why)
    if given := draft.weigh("~storage_type"):
        draft.answer(given, "no effect", "`dtype` says it")


def _set_given(draft: Draft, given: Given, engine: Engine, downloads: Sequence[Download]) -> None:
    converter = engine.converter or engine.build
    assert converter is not None
    written = given.values[0].text if given.values else ""
    folder = converter.command.path(given.values[0]) if given.values else None
    match = [each for each in downloads if folder is not None and each.folder == folder.text]
    repo = full_name(written)
    if match:
        why = f"the script downloads `{match[-1].repo}` into it"
        draft.answer(given, "renamed", why, "source.repo", match[-1].repo)
        if match[-1].revision is not None:
            draft.set("source.revision", match[-1].revision, "as the script downloads it")
    elif repo is not None and written.split("/")[0].lower() not in _FOLDERS:
        why = "a repo of the hub; if it is a local folder, write `source.path` instead"
        draft.answer(given, "renamed", why, "source.repo", repo)
    elif folder is None or folder.unknown:
        draft.answer(given, "not known", "the script does not say in which folder it is")
        draft.set("source.path", None, given.shown)
    elif folder.text.endswith(_OTHER_FORMATS):
        why = "only checkpoints in the format of Hugging Face are read"
        draft.answer(given, "not in this version", why)
        draft.set("source.path", None, given.shown)
    elif engine.converter is None and RANKS_FOLDER.fullmatch(posixpath.basename(folder.text)):
        why = "a converter wrote it: the script does not say what from"
        draft.answer(given, "not known", why)
        draft.set("source.path", None, given.shown)
    else:
        is_absolute = folder.text.startswith("/")
        why = "a local folder" if is_absolute else "a local folder, relative to the recipe"
        draft.answer(given, "renamed", why, "source.path", folder.text)


def _set_named(draft: Draft, source: str) -> None:
    """A source that the user names: `owner/name`, else a folder."""
    is_repo = REPO.fullmatch(source) is not None and not source.startswith(".")
    draft.set("source.repo" if is_repo else "source.path", source)


def recipe_name(draft: Draft, engine: Engine) -> str:
    """A name out of the model's, or of the folder of the engine."""
    source = draft.values.get("source.repo") or draft.values.get("source.path")
    if not isinstance(source, str):
        source = folder_of(engine.build, "~output_dir") if engine.build else None
    for part in reversed((source or "").split("/")):
        name = as_name(part)
        if name and "$" not in part and not _SAYS_NOTHING.fullmatch(part):
            return name
    return "migrated"


def as_name(text: str) -> str:
    """A text as the name of a recipe or a variant; empty where nothing of it can be one."""
    small = re.sub(r"[^a-z0-9._-]+", "-", text.lower())[:100]
    return small.strip("._-")
