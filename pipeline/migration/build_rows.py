"""What becomes of the flags of `trtllm-build`, and of the `build.py` of 0.5 to 0.7.

The flags of 1.2 come from the facts about it, those that left from `left_out`; here is only what
older releases called otherwise. Source: TensorRT-LLM 0.5 to 0.11, `examples/llama/build.py`,
`examples/gpt/build.py`, `tensorrt_llm/commands/build.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from pipeline.migration.rows import ON_OFF, Row, Table, Takes, Verdict, same_answer, spelling, table
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.facts import facts
from pipeline.trtllm.left_out import DECIDED, ELSEWHERE, GONE
from pipeline.trtllm.options import Form, Option, options

_TAKES: dict[Form, Takes] = {
    "value": "one",
    "list": "several",
    # Switches of one release took `enable` in another, and the other way round.
    "switch": "perhaps one",
    "on_off": "perhaps one",
    "dtype": "perhaps one",
}
_WEIGHED = {
    "max_output_len": "~max_output_len",
    "max_seq_len": "~max_seq_len",
    "max_input_len": "~max_input_len",
    "context_fmha": "~context_fmha",
    "gpt_attention_plugin": "~gpt_attention_plugin",
    "paged_kv_cache": "~paged_kv_cache",
    "gather_all_token_logits": "~gather_all_token_logits",
    "checkpoint_dir": "~checkpoint_dir",
    "output_dir": "~output_dir",
}
"""Flags that are weighed together with others."""


@cache
def trtllm_build() -> Table:
    """`trtllm-build` of 0.8 to 1.2, and the names of a `--build_config` JSON."""
    details = facts()["trtllm_build_flag_details"]
    found: dict[str, Row] = {}
    for option in options().values():
        row = _row(option)
        found |= dict.fromkeys(row.flags, row)
    for alias, flag in details["aliases"].items():
        of = found[spelling(flag)]
        why = f"an alias of `{flag}`"
        found[spelling(alias)] = Row((spelling(alias),), of.takes, "renamed", of.key, why)
    left = {**DECIDED, **GONE}
    for name in [name for name in left if name not in found]:
        verdict: Verdict = "gone" if name in GONE else "decided"
        found[name] = Row((name,), "perhaps one", verdict, _WEIGHED.get(name), _why(name))
    for flag in details["not_flags"]:
        found[spelling(flag)] = _layout(spelling(flag))
    return {**table(_OLDER_SPELLINGS), **found}


def _row(option: Option) -> Row:
    """The row of an option of 1.2; it answers to its flag and to its field's name."""
    flags = tuple(
        dict.fromkeys([spelling(option.flag), option.name] if option.flag else [option.name])
    )
    key, verdict, why = _WEIGHED.get(option.name), _verdict(option), ""
    if option.name in EngineSettings.model_fields:
        key = key or f"engine.{option.name}"
    elif option.name in ELSEWHERE:
        key = key or ELSEWHERE[option.name]
        why = f"`{ELSEWHERE[option.name]}`"
    else:
        why = _why(option.name)
    is_switch = option.form in ("switch", "on_off")
    unset: str | bool | None = True if is_switch else "auto" if option.form == "dtype" else None
    values: dict[str, str | bool | int | None] | None = dict(ON_OFF) if is_switch else None
    if option.form == "dtype":
        values = {"disable": None, "enable": "auto"}
    return Row(flags, _TAKES[option.form], verdict, key, why, values, unset)


def _why(name: str) -> str:
    """The reason, without what a recipe's author is to do: there is nothing to do here."""
    return (
        {**DECIDED, **GONE}[name].removesuffix(": leave it out").removesuffix(", or leave it out")
    )


def _verdict(option: Option) -> Verdict:
    if option.name in EngineSettings.model_fields:
        is_same = option.flag is None or spelling(option.flag) == option.name
        return "kept" if is_same else "renamed"
    if option.name in ELSEWHERE:
        return "renamed"
    return "gone" if option.name in GONE else "decided"


def _layout(name: str) -> Row:
    why = "it was never a flag of `trtllm-build`: the checkpoint says it"
    return Row((name,), "one", "gone", f"~built_{name}", why)


_RENAMED_TIMING_CACHE = "timing caches are kept in the store: `engine.use_timing_cache`"
_OLDER_SPELLINGS = [
    *same_answer("timing_cache", "one", "decided", _RENAMED_TIMING_CACHE),
    *same_answer("disable_xqa", "nothing", "gone", "XQA kernels are always on"),
    *same_answer(
        "enable_context_fmha_fp32_acc",
        "perhaps one",
        "gone",
        _why("context_fmha_fp32_acc"),
    ),
    Row(("world_size",), "one", "gone", "~built_world_size", "the checkpoint says it"),
    Row(("model",), "one", "renamed", "~model_dir", "`source.repo` or `source.path`"),
    *same_answer("visualize random_seed", "perhaps one", "decided", "it is an aid for debugging"),
]

_CONFIG = "the `config.json` of the source says it"

OLD_BUILD = table(
    [
        Row(
            ("use_gpt_attention_plugin",),
            "perhaps one",
            "renamed",
            "~gpt_attention_plugin",
            "",
            unset="float16",
        ),
        Row(
            ("use_gemm_plugin",),
            "perhaps one",
            "renamed",
            "engine.gemm_plugin",
            "",
            unset="float16",
        ),
        Row(
            ("use_lora_plugin",),
            "perhaps one",
            "renamed",
            "engine.lora_plugin",
            "",
            unset="float16",
        ),
        Row(
            ("enable_context_fmha",),
            "nothing",
            "now the default",
            "~context_fmha",
            "",
            unset=True,
        ),
        *same_answer(
            "use_inflight_batching",
            "nothing",
            "now the default",
            "it needs packed input, the attention plugin and a paged cache, which are defaults",
        ),
        Row(("parallel_build",), "nothing", "renamed", "~parallel_build", "`engine.workers`"),
        *same_answer(
            "use_rmsnorm_plugin use_layernorm_plugin use_lookup_plugin",
            "perhaps one",
            "gone",
            "TensorRT has kernels of its own for it",
        ),
        *same_answer(
            "use_smooth_quant_gemm_plugin use_weight_only_quant_matmul_plugin "
            "use_weight_only_groupwise_quant_matmul_plugin use_layernorm_quantization_plugin "
            "use_rmsnorm_quantization_plugin",
            "perhaps one",
            "decided",
            "TensorRT-LLM sets it from the checkpoint's quantization",
        ),
        *same_answer(
            "alibi bias do_layer_norm_before mq new_decoder_architecture no_bias "
            "parallel_attention post_norm pre_norm",
            "nothing",
            "no effect",
            _CONFIG,
        ),
        *same_answer(
            "mlp_hidden_size num_heads position_embedding_type rotary_pct seq_length",
            "one",
            "no effect",
            _CONFIG,
        ),
        *same_answer(
            "bin_model_dir ft_dir_path",
            "one",
            "not in this version",
            "only checkpoints in the format of Hugging Face are read",
        ),
        Row(
            ("groupwise_quant_safetensors_path",),
            "one",
            "not in this version",
            "~quantization",
            "this version does not quantise",
        ),
        *same_answer(
            "enable_qk_half_accum", "nothing", "gone", "fused attention accumulates in float32"
        ),
        *same_answer(
            "enable_two_optimization_profiles",
            "nothing",
            "decided",
            "TensorRT-LLM makes a profile for the context and one for the generation",
        ),
        *same_answer("debug_mode", "nothing", "decided", "it is an aid for debugging"),
        Row(("ft_model_dir",), "one", "renamed", "~model_dir", "`source.repo` or `source.path`"),
    ]
)
"""Flags that only the `build.py` of 0.5 to 0.7 had; the others are in the two other tables."""

OLD_BUILD_LIMITS: Mapping[str, tuple[int, int, int]] = {
    "baichuan": (1, 1024, 1024),
    "bloom": (8, 1024, 1024),
    "chatglm": (8, 1024, 1024),
    "chatglm2-6b": (4, 4096, 2048),
    "chatglm6b": (8, 1024, 1024),
    "falcon": (8, 1024, 1024),
    "gpt": (256, 200, 200),
    "gptj": (256, 200, 200),
    "gptneox": (64, 1024, 1024),
    "internlm": (8, 2048, 512),
    "llama": (8, 2048, 512),
    "mpt": (256, 200, 200),
    "opt": (256, 200, 200),
    "phi": (64, 1024, 1024),
}
"""Folder of a `build.py` of 0.5 to 0.7 -> its defaults of batch, input and output length.
Source: TensorRT-LLM 0.5 to 0.7, `examples/*/build.py`."""
