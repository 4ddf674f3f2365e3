"""Old command lines of TensorRT-LLM, or a JSON of its options, as one recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.artifact import Json
from pipeline.errors import RecipeError, UsageError
from pipeline.files.scratch import scratch_folder
from pipeline.migration.configs import read_config, take_config
from pipeline.migration.draft import Answer, Draft, Unwritten
from pipeline.migration.markdown import without_markdown
from pipeline.migration.recipe_text import render
from pipeline.migration.rows import OPEN_VERDICTS
from pipeline.migration.settle import settle
from pipeline.migration.settle_limits import settle_limits, state_old_switches
from pipeline.migration.settle_smoke import settle_smoke
from pipeline.migration.settle_source import as_name, recipe_name, settle_source
from pipeline.migration.shell_script import Command, read_script
from pipeline.migration.variants import Named, changes, distinct_names
from pipeline.migration.workflow import Engine, Workflow, read_workflow
from pipeline.recipe.load import load_recipe
from pipeline.recipe.schema import EngineSettings

_LATER = {"trtllm-build": 1, "trtllm_build": 1, "build.py": 1, "run.py": 2}
"""Programs that read what another one wrote."""

MAX_CHARACTERS = 1 << 18
"""Longest script or JSON: no build script is a tenth of it."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user adds to the old commands.

    `variables`: those that the script takes from outside. `source`: a repo or a folder, where the
    commands do not say it.
    """

    origin: str = "the command line"
    name: str | None = None
    source: str | None = None
    targets: tuple[str, ...] = ()
    variables: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Migration:
    """A recipe, and how it came about. `answers`: by engine, the recipe itself first.

    `refusals`: why the recipe does not load as it is; `is_whole`: it says all that the commands
    asked for, and loads.
    """

    recipe: str
    answers: tuple[tuple[str, tuple[Answer, ...]], ...]
    unwritten: tuple[tuple[str, tuple[Unwritten, ...]], ...]
    others: tuple[str, ...]
    refusals: tuple[str, ...]

    @property
    def open_answers(self) -> list[Answer]:
        """Flags that the recipe does not answer yet."""
        return [answer for _, of in self.answers for answer in of if answer.is_open]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left to do."""
        return not self.refusals and not self.open_answers


def migrate(text: str, options: Options | None = None) -> Migration:
    """The recipe of a shell script, of command lines (one a line), or of a JSON.

    Raises UsageError where the text is too long, no script and no JSON, or has nothing of
    TensorRT-LLM in it.
    """
    options = options or Options()
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"the input is longer than {MAX_CHARACTERS} characters")
    if "\0" in text:
        raise UsageError("the input is not a text", hint="give a shell script or a JSON")
    if text.lstrip().startswith("{"):
        return _finish([_of_config(text, options)], Workflow(), options)
    script = without_markdown(text)
    workflow = read_workflow(read_script(script, options.variables))
    if not workflow.engines:
        raise _nothing_found(text, script)
    drafts = [_of_engine(engine, workflow, options) for engine in workflow.engines]
    return _finish(drafts, workflow, options)


def _nothing_found(text: str, script: str) -> UsageError:
    hint = "give lines with `convert_checkpoint.py`, `trtllm-build` or `build.py`"
    if re.search(
        r"^[ \t]*#.*(?:trtllm-build|convert_checkpoint\.py|build\.py)", text, re.MULTILINE
    ):
        hint = "lines that begin with `#` are comments: take the `#` away"
    elif script != text:
        hint = "of Markdown only fenced blocks are read: give the commands themselves"
    elif "`" in text:
        hint = "commands between backquotes are not read: give the commands themselves"
    return UsageError("no command of TensorRT-LLM is in the input", hint=hint)


def _in_order(answers: Sequence[Answer]) -> tuple[Answer, ...]:
    """By line, and on one line the converter before the build, and that before the run."""
    return tuple(sorted(answers, key=lambda a: (a.line, _LATER.get(a.program, 0), a.place)))


def _of_engine(engine: Engine, workflow: Workflow, options: Options) -> Named:
    is_old = engine.build is not None and engine.build.kind == "old build"
    draft = Draft(has_layout=is_old or engine.converter is not None)
    for invocation in (engine.converter, engine.build):
        if invocation is not None:
            draft.take(invocation)
    settle_source(draft, engine, workflow.downloads, options.source)
    build = engine.build
    settle_limits(draft, build.kind if build else None, build.family if build else None)
    settle(draft)
    settle_smoke(draft, engine.runs)
    _state_layout(draft)
    if engine.build is not None and is_old:
        state_old_switches(draft, engine.build)
    elif engine.converter is not None and "checkpoint.dtype" not in draft.values:
        why = "float16, or what the source has"
        draft.unwritten.append(Unwritten("checkpoint.dtype", why, "auto"))
    assert not draft.facts, draft.facts  # every flag has its answer
    return Named(recipe_name(draft, engine), draft, engine)


def _of_config(text: str, options: Options) -> Named:
    document = read_config(text)
    draft = Draft(has_layout="pretrained_config" in document or "builder_config" in document)
    kind = take_config(draft, document)
    nothing = Engine(None, None)
    settle_source(draft, nothing, (), options.source)
    settle_limits(draft, kind)
    settle(draft)
    _state_layout(draft)
    assert not draft.facts, draft.facts  # every flag has its answer
    return Named(recipe_name(draft, nothing), draft, nothing)


def _state_layout(draft: Draft) -> None:
    """Where nothing says how the checkpoint was laid out, say that one rank is taken."""
    if not draft.has_layout and "checkpoint.tp_size" not in draft.values:
        draft.unwritten.append(Unwritten("checkpoint.tp_size", "the checkpoint's", 1))


def _finish(engines: Sequence[Named], workflow: Workflow, options: Options) -> Migration:
    engines = distinct_names(engines)
    for each in engines:
        _set_targets(each.draft, options)
    first, *others = engines
    name = as_name(options.name) if options.name else first.name
    variants = {each.name: (changes(first.draft, each.draft), each.draft.left) for each in others}
    flags = [
        f"{answer.shown}: {answer.verdict}"
        for each in engines
        for answer in each.draft.answers
        if answer.verdict in OPEN_VERDICTS
    ]
    text = render(
        options.origin,
        name or "migrated",
        first.draft.values,
        first.draft.notes,
        first.draft.left,
        variants,
        list(dict.fromkeys(flags)),
    )
    names = ["" if each is first else each.name for each in engines]
    return Migration(
        recipe=text,
        answers=tuple(
            (label, _in_order(each.draft.answers))
            for label, each in zip(names, engines, strict=True)
        ),
        unwritten=tuple(
            (label, tuple(each.draft.unwritten)) for label, each in zip(names, engines, strict=True)
        ),
        others=tuple(_others(workflow)),
        refusals=tuple(why_refused(text)),
    )


def _set_targets(draft: Draft, options: Options) -> None:
    """The commands ran where the engine was to run: they name no GPU."""
    draft.set("engine.backend", "trtllm")
    if options.targets:
        draft.set("engine.targets", list(options.targets))
    else:
        default: Json = list(EngineSettings.model_fields["targets"].default)
        draft.set("engine.targets", default, "the commands name no GPU: this is the default")


def _others(workflow: Workflow) -> list[str]:
    found: list[tuple[int, Command]] = [(each.line, each) for each in workflow.others]
    found += [(each.command.line, each.command) for each in workflow.unused]
    found.sort(key=lambda pair: pair[0])
    return [f"line {line}: {_shown(command)}" for line, command in found]


def _shown(command: Command) -> str:
    text = " ".join(word.text for word in command.words)
    flat = " ".join(text.split())
    return flat if len(flat) <= 100 else f"{flat[:97]}..."


def why_refused(text: str) -> list[str]:
    """Why a recipe of this text, or one of its variants, does not load; nothing if it does.

    Rules of TensorRT-LLM between options are among the reasons.
    """
    with scratch_folder() as folder:
        path = folder / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            load_recipe(path)
        except RecipeError as error:
            return [fact.replace(f"{path}:", "line ") for fact in error.facts]
    return []
