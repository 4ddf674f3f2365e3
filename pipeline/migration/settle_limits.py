"""Limits of an engine: what was given, what follows from it, and what TensorRT-LLM took else."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.artifact import Json
from pipeline.migration.build_rows import OLD_BUILD_LIMITS
from pipeline.migration.draft import PLACEHOLDER, Draft, Unwritten, number_of, translate
from pipeline.migration.programs import Given, Invocation, Kind
from pipeline.migration.rows import Verdict
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.options import options

_OURS = {
    name: EngineSettings.model_fields[name].default
    for name in ("max_batch_size", "max_input_len", "max_seq_len")
}
_ROOM = _OURS["max_seq_len"] - _OURS["max_input_len"]
"""Tokens that the defaults of a recipe leave for the output."""

_OLD_SWITCHES: tuple[tuple[tuple[str, ...], str, str, Json], ...] = (
    (("use_gpt_attention_plugin",), "engine.gpt_attention_plugin", "off", "auto"),
    (("enable_context_fmha",), "engine.attention.context_fmha", "off", True),
    (("paged_kv_cache", "use_inflight_batching"), "engine.kv_cache_type", "continuous", "paged"),
    (("remove_input_padding", "use_inflight_batching"), "engine.remove_input_padding", "off", True),
    (("dtype",), "checkpoint.dtype", "float16", "auto"),
)
"""What was off in `build.py` of 0.5 to 0.7 without one of these flags, and is a default now."""


def state_old_switches(draft: Draft, build: Invocation) -> None:
    """Say what an old `build.py` did not do because nobody asked for it."""
    names = {given.name for given in build.given}
    said = {each.key for each in draft.unwritten}
    for flags, key, was, value in _OLD_SWITCHES:
        if not names & set(flags) and key not in said:
            draft.unwritten.append(Unwritten(key, was, value))


def settle_limits(draft: Draft, kind: Kind | None, family: str | None = None) -> None:
    """State every limit. `kind`: the program whose defaults the command relied on, `family`: the
    folder that it lies in."""
    was = _defaults_of(kind, family)
    if "engine.max_batch_size" not in draft.values:
        _state(draft, "max_batch_size", _OURS["max_batch_size"], was["max_batch_size"])
    lengths = {name: _length(draft, name) for name in ("input", "output", "seq")}
    if None in lengths.values():
        _keep_lengths(draft)
    else:
        _settle_lengths(draft, lengths, was)
    _settle_num_tokens(draft, was)


def _length(draft: Draft, name: str) -> int | None:
    """A length that was given, 0 if it was not; None where the script does not say its value."""
    flags = draft.facts.get(f"~max_{name}_len")
    if not flags:
        return 0
    given = flags[-1]
    assert given.row is not None
    number = number_of(given)
    if number is not None and not given.unknown:
        return number
    draft.weigh(f"~max_{name}_len")
    key = "engine.max_input_len" if name == "input" else "engine.max_seq_len"
    if given.unknown:
        draft.not_known(given, key)
    else:
        draft.answer(given, "kept", "", key, translate(given, given.row))
    return None


def _keep_lengths(draft: Draft) -> None:
    """Lengths beside one that the script does not say: there is nothing to weigh them with."""
    if given := draft.weigh("~max_output_len"):
        why = "the length of the prompt, to which it is added, is not known"
        draft.answer(given, "not known", why)
        draft.set("engine.max_seq_len", PLACEHOLDER % "MAX_SEQ_LEN", given.shown)
    for name in ("input", "seq"):
        if given := draft.weigh(f"~max_{name}_len"):
            assert given.row is not None
            value = translate(given, given.row)
            draft.answer(given, "kept", "", f"engine.max_{name}_len", value)


def _settle_lengths(draft: Draft, lengths: dict[str, int | None], was: Mapping[str, str]) -> None:
    asked_input, output, asked_seq = (lengths[name] or 0 for name in ("input", "output", "seq"))
    input_len = asked_input or _OURS["max_input_len"]
    seq = asked_seq or (
        input_len + output if output else max(_OURS["max_seq_len"], input_len + _ROOM)
    )
    if given := draft.weigh("~max_seq_len"):
        verdict: Verdict = "kept" if given.name == "max_seq_len" else "renamed"
        draft.answer(given, verdict, "", "engine.max_seq_len", seq)
    if given := draft.weigh("~max_output_len"):
        _output(draft, given, input_len, seq, is_given=bool(asked_seq))
    if not asked_seq and not output:
        _state(draft, "max_seq_len", seq, was["max_seq_len"])
    given = draft.weigh("~max_input_len")
    if given is None:
        _state(draft, "max_input_len", min(input_len, max(1, seq - 1)), was["max_input_len"])
    elif input_len >= seq > 1:
        why = f"prompt and output have {seq} tokens together, of which one is left for the output"
        draft.answer(given, "contradictory", why, "engine.max_input_len", seq - 1)
    else:
        draft.answer(given, "kept", "", "engine.max_input_len", input_len)


def _output(draft: Draft, given: Given, input_len: int, seq: int, *, is_given: bool) -> None:
    """`--max_output_len` was the length of the output alone."""
    output = number_of(given) or 0
    total = input_len + output
    if not is_given:
        why = f"`max_seq_len` is prompt and output together: {input_len} + {output}"
        draft.answer(given, "renamed", why, "engine.max_seq_len", seq)
    elif total == seq:
        draft.answer(given, "gone", "`max_seq_len` is prompt and output together, and is given")
    else:
        why = f"with the prompt it makes {total}, but `max_seq_len` is {seq}, which counts"
        draft.answer(given, "contradictory", why)


def _state(draft: Draft, name: str, value: int, was: str) -> None:
    """Write a limit that was not given, and say what TensorRT-LLM took for it."""
    if was == str(value):
        return
    draft.set(f"engine.{name}", value, f"not given: TensorRT-LLM took {was}")
    draft.unwritten.append(Unwritten(f"engine.{name}", was, value))


def _defaults_of(kind: Kind | None, family: str | None) -> Mapping[str, str]:
    """What a program took for limits that it was not given, in words where it is no number."""
    names = ("max_batch_size", "max_input_len", "max_seq_len", "max_num_tokens")
    if kind == "old build":
        limits = OLD_BUILD_LIMITS.get(family or "")
        if limits is None:
            return dict.fromkeys(names, "the default of its `build.py`")
        batch, length, output = limits
        numbers = (str(batch), str(length), str(length + output), "worked out as well")
        return dict(zip(names, numbers, strict=True))
    defaults = {name: options()[name].default for name in names}
    return {
        name: "what the model allows" if default is None else str(default)
        for name, default in defaults.items()
    }


def _settle_num_tokens(draft: Draft, was: Mapping[str, str]) -> None:
    key = "engine.max_num_tokens"
    if key not in draft.values:
        draft.unwritten.append(Unwritten(key, was["max_num_tokens"], None))
        return
    batch, seq = (draft.values.get(f"engine.{name}") for name in ("max_batch_size", "max_seq_len"))
    tokens = draft.values[key]
    if not (isinstance(tokens, int) and isinstance(batch, int) and isinstance(seq, int)):
        return
    if tokens > batch * seq:
        why = f"a full batch has {batch * seq} tokens at most, to which TensorRT-LLM lowers it"
        draft.drop(key, "contradictory", why)
