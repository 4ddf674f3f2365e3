"""Rules between what a release is to be served by and the engine in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.recipe.rules import broken_rule
from pipeline.trtllm.facts import LINE
from pipeline.trtllm.triton_images import known_image_version, loads_our_engines

if TYPE_CHECKING:
    from pipeline.recipe.schema import EngineSettings, Package

FORMATS, KIND = ("package", "formats"), ("package", "kind")
IN_FLIGHT = (
    ("kv_cache_type", "paged"),
    ("remove_input_padding", True),
)
"""Keys of `engine` that in-flight batching needs, with the value (TensorRT-LLM's documentation of
in-flight batching; its code was not read for this)."""


def check_triton(package: Package, engine: EngineSettings) -> None:
    """A Triton model repository serves an engine of TensorRT-LLM by in-flight batching."""
    if "triton" not in package.formats:
        _check_unread(package)
        return
    if package.kind == "pytorch":
        raise broken_rule(
            "`package.formats` has `triton`, but a package of kind `pytorch` has no engine for it",
            FORMATS,
            KIND,
            hint="`trtllm-serve` serves it: leave `triton` out",
        )
    if engine.backend != "trtllm":
        raise broken_rule(
            f"`package.formats` has `triton`, but `engine.backend` is `{engine.backend}`: the "
            "model repository is for engines of TensorRT-LLM",
            FORMATS,
            ("engine", "backend"),
            hint="set `engine.backend: trtllm`, or leave `triton` out",
        )
    _check_in_flight(engine)
    _check_paged_context(package, engine)
    _check_chunks(package, engine)
    _check_image(package)


def _check_unread(package: Package) -> None:
    """What is said about serving must have a reader: Triton, or `serve.yaml` of `pytorch`."""
    fields = type(package.serving).model_fields
    given = [key for key in fields if getattr(package.serving, key) != fields[key].default]
    if package.kind == "pytorch" or not given:
        return
    listed = ", ".join(f"`package.serving.{key}`" for key in given)
    raise broken_rule(
        f"{listed}: said of a release that is for no server, since `package.formats` has no "
        "`triton`",
        *(("package", "serving", key) for key in given),
        FORMATS,
        hint="add `triton` to `package.formats`, or remove `package.serving`",
    )


def _check_in_flight(engine: EngineSettings) -> None:
    for key, wanted in IN_FLIGHT:
        found = getattr(engine, key)
        if found != wanted:
            raise broken_rule(
                f"`engine.{key}` is `{_spelt(found)}`, but `package.formats` has `triton`, whose "
                f"in-flight batching needs `{_spelt(wanted)}`",
                ("engine", key),
                FORMATS,
                hint=f"remove `engine.{key}`, or leave `triton` out",
            )
    if engine.gpt_attention_plugin is None:
        raise broken_rule(
            "`engine.gpt_attention_plugin` is off, but `package.formats` has `triton`, whose "
            "in-flight batching needs it",
            ("engine", "gpt_attention_plugin"),
            FORMATS,
            hint="remove `engine.gpt_attention_plugin`, or leave `triton` out",
        )
    if engine.speculative_decoding_mode == "lookahead_decoding":
        raise broken_rule(
            "`engine.speculative_decoding_mode` is `lookahead_decoding`, whose window sizes a "
            "Triton model repository of this version does not state",
            ("engine", "speculative_decoding_mode"),
            FORMATS,
            hint="leave `triton` out, and write the model repository by hand",
        )


def _check_paged_context(package: Package, engine: EngineSettings) -> None:
    """Reuse and chunks read the paged cache in context attention.

    Source: TensorRT-LLM at 1.3.0rc3, `triton_backend/inflight_batcher_llm/src` (its warning about
    chunks) and `docs/source/legacy/advanced/kv-cache-reuse.md`.
    """
    if engine.use_paged_context_fmha and engine.attention.context_fmha:
        return
    cause = (
        ("engine", "use_paged_context_fmha")
        if engine.attention.context_fmha
        else ("engine", "attention", "context_fmha")
    )
    for key in ("kv_cache_reuse", "chunked_context"):
        if getattr(package.serving, key):
            raise broken_rule(
                f"`package.serving.{key}` is true, but `{'.'.join(cause)}` is false: it needs "
                "paged context FMHA",
                ("package", "serving", key),
                cause,
                hint=f"remove `package.serving.{key}`, or `{'.'.join(cause)}: false`",
            )


def _check_chunks(package: Package, engine: EngineSettings) -> None:
    """Without chunks, a prompt is computed in one step."""
    num_tokens = engine.max_num_tokens
    if num_tokens is None or num_tokens >= engine.max_input_len or package.serving.chunked_context:
        return
    raise broken_rule(
        f"`engine.max_num_tokens` is {num_tokens}, but `engine.max_input_len` is "
        f"{engine.max_input_len}: a server takes such prompts only in chunks",
        ("engine", "max_num_tokens"),
        ("engine", "max_input_len"),
        ("package", "serving", "chunked_context"),
        hint="add `package.serving.chunked_context: true`, or raise `engine.max_num_tokens`",
    )


def _check_image(package: Package) -> None:
    """An image line that is known to have another TensorRT-LLM loads no engine of ours."""
    line = package.serving.triton_image
    version = None if line is None else known_image_version(line)
    if version is not None and not loads_our_engines(version):
        raise broken_rule(
            f"`package.serving.triton_image` {line} has TensorRT-LLM {version}, which loads no "
            f"engine of {LINE}",
            ("package", "serving", "triton_image"),
            FORMATS,
            hint=f"name a line with TensorRT-LLM {LINE}, or leave it out",
        )


def _spelt(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
