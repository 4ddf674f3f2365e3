"""Options of one engine that this version, or TensorRT-LLM itself, decides: quantization, fusions,
and what is so anyway."""

from __future__ import annotations

from pipeline.artifact import Json
from pipeline.migration.draft import Draft, Unwritten
from pipeline.migration.programs import Given
from pipeline.migration.rows import Verdict
from pipeline.recipe.schema import EngineSettings

FP8_OPTIONS = ("use_fp8_context_fmha", "fuse_fp4_quant", "norm_quant_fusion")
"""Options that TensorRT-LLM turns off by itself where the checkpoint is not quantised."""

_ALWAYS_STATED = ("max_batch_size", "max_input_len", "max_seq_len", "max_num_tokens")
_TYPES = ("float16", "bfloat16", "float32")
_COMPUTING = ("engine.gpt_attention_plugin", "engine.gemm_plugin")
_HEADS = ("medusa", "eagle", "explicit_draft_tokens")
"""Modes of speculative decoding for which the checkpoint must have heads that draft."""


def size(draft: Draft, name: str) -> int:
    """A size of the layout as the recipe has it so far; 0 where it is not known."""
    value = draft.values.get(f"checkpoint.{name}", 1)
    return value if isinstance(value, int) else 0


def settle_quantization(draft: Draft) -> None:
    """This version does not quantise: what would have been asked for stays as a comment."""
    precision = draft.weigh("~weight_only_precision")
    asked = draft.facts.pop("~quantization", [])
    form = draft.weigh("~qformat")
    if form is not None and _text(form) == "full_prec":
        draft.answer(form, "now the default", "the weights are not quantised")
        form = None
    if precision is not None and not asked and precision.written.startswith("--weight_only"):
        draft.answer(precision, "no effect", "it needs `--use_weight_only`")
        precision = None
    flags = [given for given in (form, precision, *asked) if given is not None]
    if flags:
        text = " ".join(given.shown for given in flags)
        draft.left.append(("checkpoint", f"quantization: # not in this version: {text}"))
    for given in flags:
        draft.answer(given, "not in this version", "this version does not quantise")


def settle_fusions(draft: Draft) -> None:
    """Options that TensorRT-LLM turns off by itself for this layout or checkpoint."""
    is_quantised = any(text.startswith("quantization") for _, text in draft.left)
    for name in FP8_OPTIONS:
        if draft.values.get(f"engine.{name}") is not True:
            continue
        if is_quantised:
            _leave_key(draft, name, "it needs a quantised checkpoint")
        else:
            why = "TensorRT-LLM turns it off where the checkpoint is not quantised"
            draft.drop(f"engine.{name}", "no effect", why)
    for name, value in _quantised_plugins(draft):
        _leave_key(draft, name, f"`{value}` needs a quantised checkpoint")
    if draft.values.get("engine.max_lora_rank") == 0 and "engine.lora_plugin" not in draft.values:
        draft.drop("engine.max_lora_rank", "no effect", "there are no adapters")
    if draft.values.get("engine.speculative_decoding_mode") in _HEADS:
        why = "this version does not convert the heads that draft tokens"
        _leave_key(draft, "speculative_decoding_mode", why)
    if draft.values.get("engine.reduce_fusion") is True and size(draft, "tp_size") == 1:
        why = "TensorRT-LLM turns it off where there is one tensor-parallel rank"
        draft.drop("engine.reduce_fusion", "no effect", why)
    if (
        draft.values.get("engine.user_buffer") is True
        and "engine.reduce_fusion" not in draft.values
    ):
        draft.drop("engine.user_buffer", "no effect", "TensorRT-LLM turns it off with it")


def _quantised_plugins(draft: Draft) -> list[tuple[str, Json]]:
    plugins = {key: value for key, value in draft.values.items() if key.endswith("_plugin")}
    found = [(key, value) for key, value in plugins.items() if value in ("fp8", "nvfp4")]
    if plugins.get("engine.fp8_rowwise_gemm_plugin") not in (None, "fp8", "nvfp4"):
        found.append(("engine.fp8_rowwise_gemm_plugin", plugins["engine.fp8_rowwise_gemm_plugin"]))
    return [(key.removeprefix("engine."), value) for key, value in found]


def _leave_key(draft: Draft, name: str, why: str) -> None:
    """Take a key of the engine back and keep it as a comment."""
    value = draft.values[f"engine.{name}"]
    text = str(value).lower() if isinstance(value, bool) else value
    draft.left.append(("engine", f"{name}: {text} # not in this version"))
    draft.drop(f"engine.{name}", "not in this version", why)


def settle_dtype(draft: Draft) -> None:
    """The type of the weights, where the converter was not told it; plugins compute in it.

    Converters took float16 by themselves for a long time; that a plugin of the same command
    computes in a type says which one it was.
    """
    plugins = {
        key: value
        for key, value in draft.values.items()
        if key.endswith("_plugin") and value in _TYPES
    }
    told = {plugins[key] for key in _COMPUTING if key in plugins}
    if "checkpoint.dtype" not in draft.values and len(told) == 1:
        (dtype,) = told
        note = "not given: the type in which the plugins compute"
        draft.set("checkpoint.dtype", dtype, note)
        draft.unwritten.append(Unwritten("checkpoint.dtype", "what the plugins compute in", dtype))
    dtype = draft.values.get("checkpoint.dtype")
    for key, value in plugins.items():
        if dtype in _TYPES and value != dtype:
            why = f"plugins compute in the type of the checkpoint, `{dtype}`: `auto`"
            draft.change(key, "auto", "contradictory", why)


def settle_layout(draft: Draft) -> None:
    """Sizes and switches of the checkpoint that say what is so anyway have no line."""
    moe_tp, moe_ep = (draft.values.get(f"checkpoint.moe_{kind}_size") for kind in ("tp", "ep"))
    if moe_ep in (None, 1) and moe_tp == size(draft, "tp_size"):
        draft.drop("checkpoint.moe_tp_size", "now the default", "each expert is split")
    for key in ("moe_ep_size", "cp_size", "embedding_sharding_dim", "use_parallel_embedding"):
        if draft.values.get(f"checkpoint.{key}") == (1 if key.endswith("size") else 0):
            draft.drop(f"checkpoint.{key}", "now the default", "")


def settle_defaults(draft: Draft) -> None:
    """Plugins and switches that ask for what is so anyway have no line of their own."""
    dtype = draft.values.get("checkpoint.dtype")
    is_single = size(draft, "tp_size") * size(draft, "pp_size") == 1
    for key in [key for key in draft.values if key.startswith("engine.")]:
        name = key.removeprefix("engine.")
        field = EngineSettings.model_fields.get(name)
        value = draft.values[key]
        if field is None or name in _ALWAYS_STATED:
            continue
        if value == field.default and type(value) is type(field.default):
            _default(draft, key)
        elif field.default == "auto" and value == dtype and dtype not in (None, "auto"):
            draft.drop(key, "now the default", f"`auto`, the checkpoint's `{dtype}`")
        elif name == "nccl_plugin" and is_single:
            draft.drop(key, "no effect", "there is one rank, which has nobody to talk to")


def _default(draft: Draft, key: str) -> None:
    """Take the line of a default back; an answer that already says why it is one stays."""
    said = [answer for answer in draft.answers if answer.key == key]
    verdict: Verdict = "now the default"
    why = ""
    if said and said[-1].verdict == "contradictory":
        verdict, why = said[-1].verdict, said[-1].why
    draft.drop(key, verdict, why)


def _text(given: Given) -> str:
    return given.values[0].text if given.values else ""
