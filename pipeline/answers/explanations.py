"""What an option of a recipe means, and a rule of TensorRT-LLM: the answers of `explain`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.artifact import Json
from pipeline.errors import UsageError
from pipeline.recipe.known_names import RENAMED_KEYS
from pipeline.recipe.sections import sections
from pipeline.trtllm.facts import facts
from pipeline.trtllm.left_out import DECIDED, ELSEWHERE, GONE
from pipeline.trtllm.options import Option, options
from pipeline.trtllm.rules import SURENESS, Rule
from pipeline.trtllm.table import RULES, find_rule

OPTION_GROUPS: Mapping[str, tuple[str, ...]] = {
    "limits": (
        "max_batch_size",
        "max_input_len",
        "max_seq_len",
        "max_beam_width",
        "max_num_tokens",
        "opt_num_tokens",
        "max_prompt_embedding_table_size",
        "max_encoder_input_len",
    ),
    "attention and KV cache": (
        "gpt_attention_plugin",
        "attention.context_fmha",
        "use_paged_context_fmha",
        "use_fp8_context_fmha",
        "remove_input_padding",
        "kv_cache_type",
        "kv_cache_tokens",
        "tokens_per_block",
        "fuse_fp4_quant",
        "streamingllm",
        "bert_attention_plugin",
        "bert_context_fmha_fp32_acc",
    ),
    "matrix products": (
        "gemm_plugin",
        "gemm_swiglu_plugin",
        "low_latency_gemm_plugin",
        "low_latency_gemm_swiglu_plugin",
        "gemm_allreduce_plugin",
        "fp8_rowwise_gemm_plugin",
        "use_fused_mlp",
        "weight_sparsity",
    ),
    "experts and recurrent layers": ("moe_plugin", "mamba_conv1d_plugin", "paged_state"),
    "ranks and fusions": (
        "nccl_plugin",
        "reduce_fusion",
        "user_buffer",
        "norm_quant_fusion",
        "pp_reduce_scatter",
    ),
    "logits": ("logits_dtype", "gather_context_logits", "gather_generation_logits"),
    "adapters and drafts": (
        "lora_plugin",
        "dora_plugin",
        "lora_target_modules",
        "lora_ckpt_source",
        "max_lora_rank",
        "speculative_decoding_mode",
        "max_draft_len",
    ),
    "weights": ("use_strip_plan", "weight_streaming", "fast_build"),
    "build": (
        "multiple_profiles",
        "profiling_verbosity",
        "enable_debug_output",
        "monitor_memory",
        "workers",
        "use_timing_cache",
        "build_timeout_s",
    ),
}
"""Heading -> keys of `engine` that the backend `trtllm` reads."""

WHERE = {
    "build": "BuildConfig",
    "plugin": "PluginConfig",
    "command": "the command line of `trtllm-build`",
}
_NOTHING: tuple[Json, ...] = (None, (), [], "NONE")

MAX_LISTED = 9
"""Keys of a section that a hint names."""


def explain_all() -> dict[str, Json]:
    """Every option by group, with its default, JSON; and the names of all rules."""
    fields = dict(_recipe_keys())
    groups = []
    for heading, keys in OPTION_GROUPS.items():
        rows = [_option_document(f"engine.{key}", fields[f"engine.{key}"]) for key in keys]
        groups.append({"group": heading, "options": [_brief(row) for row in rows]})
    return {"groups": groups, "rules": [rule.name for rule in RULES]}


def explain(name: str) -> dict[str, Json]:
    """One option, flag or rule, JSON. Raises UsageError for a name that is none of them."""
    wanted = _plain_name(name)
    if (rule := find_rule(name)) is not None:
        return {"kind": "rule", **rule_document(rule)}
    if (key := _find_key(wanted)) is not None:
        return _option_document(key, dict(_recipe_keys())[key])
    for kind, table in (("gone", GONE), ("decided", DECIDED)):
        if wanted in table:
            flag = options()[wanted].flag if wanted in options() else None
            return {"kind": kind, "name": wanted, "flag": flag, "instead": table[wanted]}
    raise _unknown(name, wanted)


def rule_document(rule: Rule) -> dict[str, Json]:
    """A rule, JSON."""
    return {
        "name": rule.name,
        "effect": rule.effect,
        "when": rule.when,
        "keys": list(rule.keys),
        "reason": rule.says,
        "fix": rule.fix,
        "source": rule.source,
        "sure": SURENESS[rule.sure],
    }


def _recipe_keys() -> Iterator[tuple[str, Any]]:
    """Every key that holds a value, dotted, and its field."""
    for path, model in sections().items():
        for key, field in model.model_fields.items():
            if (*path, key) not in sections():
                yield ".".join((*path, key)), field


def _plain_name(name: str) -> str:
    """A flag, a key or a field by the name that it has here."""
    plain = name.removeprefix("--").replace("-", "_")
    for prefix in ("engine.", "build_config.", "plugin_config."):
        plain = plain.removeprefix(prefix)
    details = facts()["trtllm_build_flag_details"]
    flag = details["aliases"].get(f"--{plain}", f"--{plain}")
    of_flag = [option.name for option in options().values() if option.flag == flag]
    return of_flag[0] if of_flag else plain


def _find_key(name: str) -> str | None:
    """The recipe key of a name: as it is, in `engine`, elsewhere, or as another tool calls it."""
    keys = [key for key, _ in _recipe_keys()]
    for candidate in (name, f"engine.{name}", ELSEWHERE.get(name), RENAMED_KEYS.get(name)):
        if candidate in keys:
            return candidate
    ending = [key for key in keys if key.endswith(f".{name}")]
    return ending[0] if ending else None


def _option_document(key: str, field: Any) -> dict[str, Json]:
    name = key.rpartition(".")[2]
    option = options().get(name) if key.startswith("engine.") else None
    default = None if field.is_required() else field.default
    document = {
        "kind": "option",
        "key": key,
        "means": field.description,
        "type": _type_words(key),
        "default": _plain_default(default),
        "rules": [rule_document(rule) for rule in RULES if _is_about(rule, key, name, option)],
    }
    if option is not None:
        theirs = None if option.default in _NOTHING else option.default
        is_other = theirs != (None if default in _NOTHING else default)
        document |= {
            "flag": option.flag,
            "where": WHERE[option.part],
            "tensorrt_llm_default": theirs,
            "differs": is_other,
        }
        if option.values and option.form == "list":
            document["values"] = list(option.values)
    return document


def _brief(document: Mapping[str, Json]) -> dict[str, Json]:
    kept = ("key", "means", "default", "tensorrt_llm_default", "differs")
    return {key: document[key] for key in kept if key in document}


def _is_about(rule: Rule, key: str, name: str, option: Option | None) -> bool:
    """Whether a rule names the key, or its condition reads the option."""
    return key in rule.keys or (option is not None and name in rule.needs)


def _plain_default(default: Any) -> Json:
    if isinstance(default, tuple):
        return [_plain_default(item) for item in default]
    return default.model_dump(mode="json") if hasattr(default, "model_dump") else default


def _type_words(key: str) -> str:
    """The type of a key in words, from the JSON schema of its section."""
    path = tuple(key.split("."))
    schema = sections()[path[:-1]].model_json_schema()["properties"][path[-1]]
    return " or ".join(map(_schema_words, schema.get("anyOf", [schema])))


def _schema_words(schema: Mapping[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"`{value}`" for value in values)
    if schema.get("type") == "array":
        return "a list"
    if schema.get("type") in ("integer", "number"):
        kind = "a whole number" if schema["type"] == "integer" else "a number"
        return f"{kind} from {schema['minimum']}" if "minimum" in schema else kind
    words = {"boolean": "`true` or `false`", "null": "`null`", "string": "text"}
    return words.get(schema.get("type", ""), "a section")


def _unknown(name: str, wanted: str) -> UsageError:
    known = {
        *(rule.name for rule in RULES),
        *(key.removeprefix("engine.") for key, _ in _recipe_keys()),
        *GONE,
        *DECIDED,
    }
    within = [key for key, _ in _recipe_keys() if f".{wanted}." in f".{key}"]
    nearest = difflib.get_close_matches(wanted, known, n=3)
    listed = ", ".join(f"`{each}`" for each in nearest)
    hint = f"did you mean {listed}?" if nearest else "`trtllm-pack explain` lists the options"
    if within:
        listed = ", ".join(f"`{each}`" for each in within[:MAX_LISTED])
        more = f" and {len(within) - MAX_LISTED} more" if len(within) > MAX_LISTED else ""
        hint = f"it is a section of a recipe, with {listed}{more}"
    return UsageError(f"`{name}` is neither an option nor a rule", hint=hint)
