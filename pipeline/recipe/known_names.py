"""Names that users bring along from other tools, and what a recipe calls them: data."""

from __future__ import annotations

from pipeline.artifact import Json
from pipeline.trtllm.left_out import DECIDED, GONE, GONE_SOURCE
from pipeline.trtllm.options import options

RENAMED_KEYS = {
    "max_seq_length": "engine.max_seq_len",
    "max_sequence_length": "engine.max_seq_len",
    "max_sequence_len": "engine.max_seq_len",
    "max_model_len": "engine.max_seq_len",
    "max_context_len": "engine.max_seq_len",
    "context_length": "engine.max_seq_len",
    "max_input_length": "engine.max_input_len",
    "max_prompt_len": "engine.max_input_len",
    "batch_size": "engine.max_batch_size",
    "max_batch": "engine.max_batch_size",
    "max_num_seqs": "engine.max_batch_size",
    "max_decoder_seq_len": "engine.max_seq_len",
    "max_multimodal_len": "engine.max_prompt_embedding_table_size",
    "max_num_batched_tokens": "engine.max_num_tokens",
    "strip_plan": "engine.use_strip_plan",
    "kv_cache_dtype": "checkpoint.quantization",
    "kv_block_size": "engine.tokens_per_block",
    "block_size": "engine.tokens_per_block",
    "paged_context_fmha": "engine.use_paged_context_fmha",
    "fp8_context_fmha": "engine.use_fp8_context_fmha",
    "build_timeout": "engine.build_timeout_s",
    "tp": "checkpoint.tp_size",
    "tensor_parallel": "checkpoint.tp_size",
    "tensor_parallel_size": "checkpoint.tp_size",
    "pp": "checkpoint.pp_size",
    "pipeline_parallel": "checkpoint.pp_size",
    "pipeline_parallel_size": "checkpoint.pp_size",
    "data_type": "checkpoint.dtype",
    "torch_dtype": "checkpoint.dtype",
    "precision": "checkpoint.dtype",
    "quant": "checkpoint.quantization",
    "quant_algo": "checkpoint.quantization",
    "qformat": "checkpoint.quantization",
    "use_fp8": "checkpoint.quantization",
    "use_weight_only": "checkpoint.quantization",
    "weight_only_precision": "checkpoint.quantization",
    "fmha": "engine.attention.context_fmha",
    "use_fmha": "engine.attention.context_fmha",
    "enable_context_fmha": "engine.attention.context_fmha",
    "context_fmha_type": "engine.attention.context_fmha",
    "flash_attention": "engine.attention.context_fmha",
    "gpu": "engine.targets",
    "gpus": "engine.targets",
    "arch": "engine.targets",
    "sm": "engine.targets",
    "cuda_arch": "engine.targets",
    "compute_capability": "engine.targets",
    "model": "source.repo",
    "model_id": "source.repo",
    "model_name": "source.repo",
    "repo_id": "source.repo",
    "hf_model": "source.repo",
    "hf_endpoint": "source.endpoint",
    "mirror": "source.endpoint",
    "site": "source.hub",
    "registry": "source.hub",
    "model_dir": "source.path",
    "checkpoint_dir": "source.path",
    "local_dir": "source.path",
    "folder": "source.path",
    "branch": "source.revision",
    "commit": "source.revision",
    "ref": "source.revision",
    "tag": "source.revision",
    "sha": "source.revision",
    "prompt": "smoke.prompts",
    "max_tokens": "smoke.max_new_tokens",
    "expected": "smoke.prompts.expect",
    "output": "package.formats",
    "decoupled_mode": "package.serving.streaming",
    "decoupled": "package.serving.streaming",
    "kv_cache_free_gpu_mem_fraction": "package.serving.kv_cache_fraction",
    "kv_cache_free_gpu_memory_fraction": "package.serving.kv_cache_fraction",
    "free_gpu_memory_fraction": "package.serving.kv_cache_fraction",
    "enable_kv_cache_reuse": "package.serving.kv_cache_reuse",
    "enable_block_reuse": "package.serving.kv_cache_reuse",
    "enable_chunked_context": "package.serving.chunked_context",
    "enable_chunked_prefill": "package.serving.chunked_context",
    "base": "extends",
    "parent": "extends",
    "inherit": "extends",
    "profiles": "variants",
}
"""Key of another tool, or of an older one -> where a recipe has it."""

SECRET_KEYS = ("token", "hf_token", "api_key", "password", "secret")
"""Keys whose value is not to be shown in a message."""

EXPLAINED_KEYS = {
    **{name: f"{told} ({GONE_SOURCE})" for name, told in GONE.items()},
    **DECIDED,
    "beam_width": "set `engine.max_beam_width`, the largest number of beams",
    "world_size": "it follows from the sizes of `checkpoint`: leave it out",
    "num_gpus": "it follows from the sizes of `checkpoint`: leave it out",
    "trust_remote_code": "code of a repo is never executed: leave it out",
    **dict.fromkeys(
        SECRET_KEYS,
        "a recipe holds no secrets: remove it, and set `HF_TOKEN` or log in by `hf auth login`",
    ),
}
"""Key that no recipe has -> why, and what to do."""

_DTYPES = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "f16": "float16",
    "half": "float16",
    "fp32": "float32",
    "f32": "float32",
    "float": "float32",
}
_OFF = dict.fromkeys(("disable", "disabled", "none", "off", "no", "false"), "null")
_ON = ("enable", "enabled", "on", "yes", "true")


def _plugin_words(values: tuple[Json, ...]) -> dict[str, str]:
    """Words for the values of a plugin, those that it has."""
    usual = next((value for value in ("auto", "fp8") if value in values), "bfloat16")
    words = {**_DTYPES, **dict.fromkeys(_ON, usual)}
    return {word: value for word, value in words.items() if value in values} | _OFF


_PLUGIN_VALUES = {
    f"engine.{option.name}": _plugin_words(option.values or ())
    for option in options().values()
    if option.part == "plugin" and option.form == "dtype" and option.flag is not None
}
"""What `trtllm-build` calls `disable`, and what others write, for a plugin that takes a dtype."""

KNOWN_VALUES = {
    **_PLUGIN_VALUES,
    "source.hub": {
        "hf": "huggingface",
        "hugging_face": "huggingface",
        "hugging face": "huggingface",
        "huggingface.co": "huggingface",
        "ms": "modelscope",
        "model_scope": "modelscope",
        "modelscope.cn": "modelscope",
        "modelscope.ai": "modelscope",
    },
    "checkpoint.dtype": _DTYPES,
    "engine.logits_dtype": _plugin_words(("float16", "float32")),
    "engine.kv_cache_type": {**dict.fromkeys(_ON, "paged"), "block": "paged"},
    "engine.speculative_decoding_mode": {
        **_OFF,
        "draft": "draft_tokens_external",
        "draft_target": "draft_tokens_external",
        "lookahead": "lookahead_decoding",
        "redrafter": "explicit_draft_tokens",
    },
    "engine.backend": {
        "trt": "tensorrt",
        "rtx": "tensorrt",
        "tensorrt-rtx": "tensorrt",
        "tensorrt_rtx": "tensorrt",
        "trt-llm": "trtllm",
        "tensorrt-llm": "trtllm",
        "tensorrt_llm": "trtllm",
        "ort": "onnxruntime",
        "onnx": "onnxruntime",
        "cpu": "onnxruntime",
    },
    "engine.targets": {
        "v100": "sm70",
        "t4": "sm75",
        "a100": "sm80",
        "a10": "sm86",
        "a10g": "sm86",
        "rtx 3090": "sm86",
        "l4": "sm89",
        "l40": "sm89",
        "l40s": "sm89",
        "rtx 4090": "sm89",
        "h100": "sm90",
        "h200": "sm90",
        "gh200": "sm90",
        "b200": "sm100",
        "gb200": "sm100",
        "rtx 5090": "sm120",
        "turing": "sm75",
        "ampere": "sm80",
        "ada": "sm89",
        "hopper": "sm90",
        "blackwell": "sm100",
    },
}
"""Field -> value as users write it, in lower case -> as a recipe has it."""

PATTERNS = {
    "name": "lower-case letters and digits, with `.`, `_` or `-` between them",
    "source.repo": "`owner/name`",
    "source.revision": "a commit, tag or branch, with no spaces",
    "source.endpoint": "the address of a server, `https://host`, with no user and no query",
    "source.path": "the path of a folder",
    "source.remote_code": "the SHA-256 of Python files by their names, `modeling_x.py: 0123...`",
    "engine.targets": "`sm` and a compute capability from 7.0 on, e.g. `sm89`",
    "package.serving.triton_image": "the line of a Triton image, `YY.MM`",
}
"""Field with a pattern -> the pattern in words."""

SHORTHANDS = {
    "source": "repo",
    "engine": "backend",
    "checkpoint": "dtype",
    "smoke.prompts": "text",
    "smoke.prompts.expect": "contains",
}
"""Section -> the key that is meant when a single value is written in its place."""
