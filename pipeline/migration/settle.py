"""Weigh the flags of one engine together: ranks, attention, cache, logits."""

from __future__ import annotations

from pipeline.artifact import Json
from pipeline.migration.draft import Draft, number_of, translate
from pipeline.migration.programs import Given
from pipeline.migration.rows import ON_OFF, Verdict
from pipeline.migration.settle_options import (
    settle_defaults,
    settle_dtype,
    settle_fusions,
    settle_layout,
    settle_quantization,
    size,
)
from pipeline.recipe.schema import EngineSettings

_RUN_TIME = "the run time of 1.2 batches in flight, for which it needs {}"


def settle(draft: Draft) -> None:
    """Turn the weighed flags of an engine into keys and answers; the order matters little."""
    _settle_ranks(draft)
    _settle_attention(draft)
    _settle_cache(draft)
    _settle_logits(draft)
    settle_quantization(draft)
    settle_fusions(draft)
    settle_dtype(draft)
    settle_layout(draft)
    settle_defaults(draft)


def _settle_ranks(draft: Draft) -> None:
    """`--world_size` of older converters, and sizes that were given to `trtllm-build`."""
    if given := draft.weigh("~world_size"):
        _world_size(draft, given)
    for name in ("tp_size", "pp_size", "world_size"):
        given = draft.weigh(f"~built_{name}")
        if given is not None and not draft.has_layout:
            _built_layout(draft, given, name)
        elif given is not None:
            asked, ranks = number_of(given), size(draft, "tp_size") * size(draft, "pp_size")
            there = ranks if name == "world_size" else size(draft, name)
            if given.unknown or not there:
                draft.answer(given, "gone", "the checkpoint says it: the engine follows it")
            elif asked == there:
                draft.answer(given, "gone", "the checkpoint says it, and says the same")
            else:
                why = f"the checkpoint says it, and says {there}: the engine follows it"
                draft.answer(given, "contradictory", why)
    if given := draft.weigh("~moe_tp_mode"):
        if number_of(given) == 1:
            why = "experts are shared among the ranks: `moe_ep_size` is `tp_size`"
            draft.answer(given, "renamed", why, "checkpoint.moe_ep_size", size(draft, "tp_size"))
        else:
            draft.answer(given, "now the default", "each expert is split among the ranks")
    if given := draft.weigh("~parallel_build"):
        ranks = size(draft, "tp_size") * size(draft, "pp_size")
        draft.answer(given, "renamed", "as many as there are ranks", "engine.workers", ranks)


def _built_layout(draft: Draft, given: Given, name: str) -> None:
    """A size that was given to `trtllm-build`, where nothing else says the layout."""
    if name == "world_size":
        _world_size(draft, given)
    elif given.unknown:
        draft.not_known(given, f"checkpoint.{name}")
    else:
        why = "it was never a flag of `trtllm-build`, but nothing else says it"
        draft.answer(given, "renamed", why, f"checkpoint.{name}", number_of(given))


def _world_size(draft: Draft, given: Given) -> None:
    ranks = number_of(given)
    product = size(draft, "tp_size") * size(draft, "pp_size")
    if given.unknown or ranks is None:
        if "checkpoint.tp_size" in draft.values:
            draft.answer(given, "renamed", "`checkpoint.tp_size` and `pp_size` say it")
        else:
            draft.not_known(given, "checkpoint.tp_size")
    elif "checkpoint.tp_size" in draft.values or not product or ranks % product:
        if ranks == product:
            draft.answer(given, "renamed", "`checkpoint.tp_size` and `pp_size` say the same")
        else:
            why = f"`tp_size` times `pp_size` is {product}, which is taken"
            draft.answer(given, "contradictory", why)
    else:
        tp_size = ranks // size(draft, "pp_size")
        draft.answer(given, "renamed", "", "checkpoint.tp_size", tp_size)


def _settle_attention(draft: Draft) -> None:
    """Attention is unfused only where the old command asked for it."""
    unfused: list[Given] = []
    if given := draft.weigh("~gpt_attention_plugin"):
        value = _value(given)
        if given.unknown:
            draft.not_known(given, "engine.gpt_attention_plugin")
        elif value is None or value is False:
            unfused.append(given)
            why = "the run time of 1.2 takes no engine without it; attention stays unfused"
            draft.answer(given, "gone", why, "engine.attention.context_fmha", False)
        else:
            verdict: Verdict = "kept" if given.name == "gpt_attention_plugin" else "renamed"
            draft.answer(given, verdict, "", "engine.gpt_attention_plugin", value)
    if given := draft.weigh("~context_fmha"):
        if given.unknown:
            draft.not_known(given, "engine.attention.context_fmha")
        elif _value(given) is False:
            unfused.append(given)
            why = "the old command asked for unfused attention, so the recipe does not require it"
            draft.answer(given, "renamed", why, "engine.attention.context_fmha", False)
        else:
            draft.answer(given, "now the default", "fused attention is on, and is required")
    if unfused:
        draft.set("engine.attention.require_fused", False, "as the old engine")
        _turn_off(draft, "use_paged_context_fmha", "without fused attention there is none")
        _turn_off(draft, "use_fp8_context_fmha", "without fused attention there is none")


def _turn_off(draft: Draft, name: str, why: str) -> None:
    """Write an option as false where its default, or a flag, would have it on."""
    key = f"engine.{name}"
    if draft.values.get(key, EngineSettings.model_fields[name].default) is False:
        return
    if key in draft.values:
        draft.drop(key, "contradictory", why)
    if EngineSettings.model_fields[name].default is not False:
        draft.set(key, False, why)


def _settle_cache(draft: Draft) -> None:
    """A cache that is not paged, and padded input, cannot be run any more."""
    given = draft.weigh("~paged_kv_cache")
    if given is not None and _value(given) is not False:
        draft.answer(given, "now the default", "the cache is paged")
    elif given is not None:
        draft.answer(given, "gone", _RUN_TIME.format("a paged cache"))
    written = draft.values.get("engine.kv_cache_type")
    if isinstance(written, str):
        draft.values["engine.kv_cache_type"] = written.lower()
    if draft.values.get("engine.kv_cache_type") == "continuous":
        draft.drop("engine.kv_cache_type", "gone", _RUN_TIME.format("a paged cache"))
    if draft.values.get("engine.kv_cache_type") == "disabled":
        _turn_off(draft, "use_paged_context_fmha", "without a cache there are no pages")
    if draft.values.get("engine.remove_input_padding") is False:
        draft.drop("engine.remove_input_padding", "gone", _RUN_TIME.format("packed input"))


def _settle_logits(draft: Draft) -> None:
    if given := draft.weigh("~gather_all_token_logits"):
        if _value(given) is False:
            draft.answer(given, "now the default", "")
            return
        why = "`gather_context_logits` and `gather_generation_logits`"
        draft.answer(given, "renamed", why, "engine.gather_context_logits", True)
        draft.set("engine.gather_generation_logits", True, given.shown)


def _value(given: Given) -> Json:
    assert given.row is not None
    value = translate(given, given.row)
    return ON_OFF.get(str(value).lower(), value) if given.row.takes == "perhaps one" else value
