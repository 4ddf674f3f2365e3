"""Rules between the keys of one section, for which no model and no machine needs to be known."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError, ValidatorFunctionWrapHandler
from pydantic_core import PydanticCustomError

Value = TypeVar("Value", bound=Sequence[str])

BROKEN_RULE = "broken_rule"
"""Type of the errors of this module. Their context has `keys`: paths of the keys that are at odds,
relative to the section, where the mistake is to be shown; `message`; and perhaps `hint`."""


def broken_rule(
    message: str, *keys: tuple[str | int, ...], hint: str | None = None
) -> PydanticCustomError:
    """The error of a rule; one without `keys` is about a value whose name precedes `message`."""
    context = {"message": message, "keys": keys, "hint": hint}
    return PydanticCustomError(BROKEN_RULE, "{message}", context)


def check_source(repo: str | None, revision: str | None, path: str | None, hub: str) -> None:
    """A source is a repo of a hub, perhaps with a revision, or a local folder."""
    if repo is not None and path is not None:
        hint = "remove one of the two"
        raise broken_rule("`source` has both `repo` and `path`", ("path",), ("repo",), hint=hint)
    if repo is None and path is None:
        where = "ModelScope" if hub == "modelscope" else "the Hugging Face Hub"
        hint = f"add `repo: owner/name` of {where}, or `path:` of a local folder"
        raise broken_rule("has neither `repo` nor `path`", hint=hint)
    if path is not None and revision is not None:
        hint = "remove it: a local folder is taken as it is"
        raise broken_rule(
            "`source.revision` goes with `repo`, not with `path`",
            ("revision",),
            ("path",),
            hint=hint,
        )
    if path is not None and hub != "huggingface":
        hint = "remove it: a local folder is taken as it is, wherever it was downloaded from"
        raise broken_rule(
            "`source.hub` goes with `repo`, not with `path`", ("hub",), ("path",), hint=hint
        )


def check_endpoint(endpoint: str | None, repo: str | None, hub: str) -> None:
    """A mirror is one of the Hugging Face Hub, and not spoken to in the clear."""
    if endpoint is None:
        return
    if repo is None or hub != "huggingface":
        what = "a repo of the Hugging Face Hub"
        raise broken_rule(f"`source.endpoint` goes with {what}", ("endpoint",), hint="remove it")
    parts = urlsplit(endpoint)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        hint = "write `https://`; plain HTTP is for servers on this machine"
        raise broken_rule("`source.endpoint` is not encrypted", ("endpoint",), hint=hint)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or address alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_experts(tp_size: int, moe_tp_size: int | None, moe_ep_size: int | None) -> None:
    """The tp ranks are a grid of those that share an expert and those that have different ones."""
    given = {"moe_tp_size": moe_tp_size, "moe_ep_size": moe_ep_size}
    told = {key: size for key, size in given.items() if size is not None}
    product = (moe_tp_size or 1) * (moe_ep_size or 1)
    if tp_size % product or (len(told) == 2 and product != tp_size):
        shown = " times ".join(f"`checkpoint.{key}` {size}" for key, size in told.items())
        raise broken_rule(
            f"{shown} does not make `checkpoint.tp_size` {tp_size}",
            *((key,) for key in told),
            ("tp_size",),
            hint="`moe_tp_size` times `moe_ep_size` is `tp_size`; leave one of them out",
        )


def check_embedding(use_parallel_embedding: bool, embedding_sharding_dim: int) -> None:
    """A dim is of no use to an embedding that is not shared."""
    if embedding_sharding_dim and not use_parallel_embedding:
        raise broken_rule(
            "`checkpoint.embedding_sharding_dim` is 1, but the embedding is not shared",
            ("embedding_sharding_dim",),
            hint="add `use_parallel_embedding: true`, or remove it",
        )


def check_attention(context_fmha: bool, require_fused: bool) -> None:
    """Fused attention cannot be required and turned off."""
    if require_fused and not context_fmha:
        raise broken_rule(
            "`engine.attention.context_fmha` is false, but `engine.attention.require_fused` is "
            "true: fused attention is turned off and required",
            ("context_fmha",),
            ("require_fused",),
            hint="remove `context_fmha: false`, or add `require_fused: false`",
        )


def check_lengths(max_input_len: int, max_seq_len: int, backend: str) -> None:
    """A prompt of the greatest length must leave room for at least one generated token."""
    if max_input_len >= max_seq_len:
        source = " (TensorRT-LLM `builder.py` would clip the prompt)" if backend == "trtllm" else ""
        raise broken_rule(
            f"`engine.max_input_len` is {max_input_len}, but `engine.max_seq_len`, prompt plus "
            f"output, is {max_seq_len}",
            ("max_input_len",),
            ("max_seq_len",),
            hint="make `max_seq_len` the larger one, by the number of tokens to generate" + source,
        )


def check_backend_keys(backend: str, keys: Sequence[str]) -> None:
    """Options of TensorRT-LLM mean nothing to another backend."""
    if keys:
        listed = ", ".join(f"`engine.{key}`" for key in keys)
        told = "an option" if len(keys) == 1 else "options"
        raise broken_rule(
            f"{listed}: {told} of TensorRT-LLM, which the backend `{backend}` does not read",
            *((key,) for key in keys),
            ("backend",),
            hint=f"remove {'it' if len(keys) == 1 else 'them'}, or set `engine.backend: trtllm`",
        )


def check_device(backend: str, device: str) -> None:
    """Only ONNX Runtime executes on several kinds of device; the others always need a GPU."""
    if device != "cpu":
        raise broken_rule(
            f"`engine.device` is `{device}`: not read by the backend `{backend}`",
            ("device",),
            ("backend",),
            hint="remove it, or set `engine.backend: onnxruntime`",
        )


def check_tensorrt_keys(backend: str, given: Mapping[str, object]) -> None:
    """What stands in `engine.tensorrt` means nothing to another backend."""
    if given:
        listed = ", ".join(f"`engine.tensorrt.{key}`" for key in given)
        raise broken_rule(
            f"{listed}: not read by the backend `{backend}`",
            *(("tensorrt", key) for key in given),
            ("backend",),
            hint=f"remove {'it' if len(given) == 1 else 'them'}, or set `engine.backend: tensorrt`",
        )


def check_stop_reason(stop_reason: str | None, stop: Sequence[str]) -> None:
    """Only a prompt with stop texts can end by one."""
    if stop_reason == "stop" and not stop:
        raise broken_rule(
            "`expect.stop_reason` is `stop`, but the prompt has no `stop` texts",
            ("expect", "stop_reason"),
            ("stop",),
            hint='add `stop: ["..."]`, or expect `end` (end-of-sequence token) or `length`',
        )


def check_expected_tokens(
    index: int, min_tokens: int | None, token_ids: Sequence[int] | None, limit: int
) -> None:
    """No prompt may expect more tokens than its limit lets it generate."""
    given = {"min_tokens": min_tokens, "token_ids": None if token_ids is None else len(token_ids)}
    for key, num_tokens in given.items():
        if num_tokens is not None and num_tokens > limit:
            raise broken_rule(
                f"`smoke.prompts[{index}].expect.{key}` asks for {num_tokens} tokens, but at most "
                f"{limit} are generated",
                ("prompts", index, "expect", key),
                ("prompts", index, "max_new_tokens"),
                ("max_new_tokens",),
                hint="raise `max_new_tokens` of the prompt or of `smoke`",
            )


def check_distinct(values: Value) -> Value:
    """No item may be given twice."""
    repeated = sorted(value for value, count in Counter(values).items() if count > 1)
    if repeated:
        names = ", ".join(f"`{value}`" for value in repeated)
        raise broken_rule(f"gives {names} more than once", hint="give each once")
    return values


def check_layers(value: object, handler: ValidatorFunctionWrapHandler) -> int | str:
    """One mistake for `all` or a number: pydantic has one for each of the two."""
    try:
        layers: int | str = handler(value)
    except ValidationError:
        raise broken_rule(
            "must be `all`, or a whole number that is 1 or more", hint="leave it out for all layers"
        ) from None
    return layers


def check_regex(pattern: str) -> str:
    """The pattern must be a regular expression of Python's `re`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about patterns whose meaning may change one day
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        hint = (
            "put a pattern in single quotes, and a backslash before a literal `(`, `[`, `*` or `+`"
        )
        raise broken_rule(f"is not a regular expression: {error}", hint=hint) from None
    return pattern
