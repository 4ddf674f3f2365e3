"""What becomes of the flags of `convert_checkpoint.py`, of every model's, and of `quantize.py`.

Sources: TensorRT-LLM 0.5 to 1.2, `examples/*/convert_checkpoint.py`, `examples/models/*/*/`,
`examples/quantization/quantize.py`, `examples/*/hf_*_convert.py`.
"""

from __future__ import annotations

from pipeline.migration.rows import NOT_GIVEN, ON_OFF, Row, same_answer, table

_MEMORY = "converting streams the weights, in bounded memory"
_CONFIG = "the `config.json` of the source says it"
_CALIBRATION = "it belongs to calibrating, which only quantization does"
_QUANTIZATION = "this version does not quantise"
_HEADS = "this version does not convert the heads or models that draft tokens"
_ENCODER = "this version converts decoders only"
_DECODER_SIZES = (
    "vocab_size n_positions n_layer n_head n_kv_head n_embd inter_size rms_norm_eps multiple_of "
    "ffn_dim_multiplier hidden_act rotary_dim norm_eps clip_qkv max_seq_len"
)
_DTYPES = {"fp16": "float16", "fp32": "float32", "bf16": "bfloat16", "half": "float16"}

_SOURCE = [
    Row(
        ("model_dir", "i", "in_file", "hf_model_dir", "base_model_checkpoint_dir", "model_name"),
        "one",
        "renamed",
        "~model_dir",
        "`source.repo` or `source.path`",
    ),
    Row(
        ("output_dir", "output_model_dir", "o", "out_dir", "export_path", "saved_dir"),
        "one",
        "decided",
        "~output_dir",
        "the checkpoint goes to the store: `convert --out DIR` places it in a folder too",
    ),
    *same_answer(
        "meta_ckpt_dir nemo_ckpt_path weights_dir timm_ckpt model_path",
        "one",
        "not in this version",
        "only checkpoints in the format of Hugging Face are read",
    ),
    *same_answer(
        "nemo_rename_key", "several", "not in this version", "NeMo checkpoints are not read"
    ),
    Row(
        ("ckpt_type",),
        "one",
        "no effect",
        "~ckpt_type",
        "only checkpoints in the format of Hugging Face are read",
    ),
    *same_answer("save_config_only", "nothing", "decided", "`trtllm-pack plan` writes no weights"),
    *same_answer(
        "trust_remote_code", "nothing", "decided", "code that comes with a model is never executed"
    ),
    *same_answer(
        "chatglm_version gpt_variant qwen_type model_version model_type decoder_type model m",
        "one",
        "no effect",
        "the architecture in the source's `config.json` says it",
    ),
    *same_answer(_DECODER_SIZES, "one", "no effect", _CONFIG),
    *same_answer("multi_query_mode", "nothing", "no effect", _CONFIG),
    *same_answer("cache_dir", "one", "no effect", "what is downloaded is kept in the store"),
    *same_answer("moe_num_experts moe_top_k moe_renorm_mode", "one", "no effect", _CONFIG),
    *same_answer(
        "rotary_base", "one", "not in this version", f"{_CONFIG}: change `rope_theta` there"
    ),
    *same_answer(
        "rotary_scaling",
        "several",
        "not in this version",
        f"{_CONFIG}: change `rope_scaling` there",
    ),
    *same_answer("tokenizer_dir", "one", "decided", "the tokenizer comes with the source"),
]

_LAYOUT = [
    Row(("dtype",), "one", "kept", "checkpoint.dtype", "", values=_DTYPES),
    Row(("tp_size",), "one", "kept", "checkpoint.tp_size", ""),
    Row(("pp_size",), "one", "kept", "checkpoint.pp_size", ""),
    Row(("cp_size",), "one", "kept", "checkpoint.cp_size", ""),
    Row(("moe_tp_size",), "one", "kept", "checkpoint.moe_tp_size", "", values={"-1": NOT_GIVEN}),
    Row(("moe_ep_size",), "one", "kept", "checkpoint.moe_ep_size", "", values={"-1": NOT_GIVEN}),
    Row(
        ("tensor_parallelism", "tp", "infer_gpu_num", "i_g"),
        "one",
        "renamed",
        "checkpoint.tp_size",
        "",
    ),
    Row(("pp",), "one", "renamed", "checkpoint.pp_size", ""),
    Row(
        ("world_size", "ws"), "one", "renamed", "~world_size", "`checkpoint.tp_size` and `pp_size`"
    ),
    Row(("moe_tp_mode",), "one", "gone", "~moe_tp_mode", "`checkpoint.moe_ep_size` says it"),
    Row(
        ("use_parallel_embedding",),
        "nothing",
        "kept",
        "checkpoint.use_parallel_embedding",
        "",
        values=ON_OFF,
        unset=True,
    ),
    Row(("embedding_sharding_dim",), "one", "kept", "checkpoint.embedding_sharding_dim", ""),
    Row(
        ("logits_dtype",),
        "one",
        "renamed",
        "engine.logits_dtype",
        "",
        values={"float32": NOT_GIVEN},
    ),
    *same_answer(
        "use_embedding_sharing",
        "nothing",
        "gone",
        "TensorRT-LLM shares equal tables of embedding and head by itself",
    ),
    *same_answer(
        "remove_duplicated_kv_heads",
        "nothing",
        "not in this version",
        "the heads are converted as the source has them",
    ),
]

_WORK = [
    *same_answer("workers processes p", "one", "decided", _MEMORY),
    *same_answer(
        "load_by_shard load_model_on_cpu convert_model_on_cpu use_preloading "
        "use_safetensors_loading",
        "nothing",
        "decided",
        _MEMORY,
    ),
    *same_answer("log_level", "one", "decided", "progress is shown; `--quiet` hides it"),
    *same_answer("verbose", "nothing", "decided", "progress is shown; `--quiet` hides it"),
    *same_answer("dense_context_fmha", "nothing", "gone", "it went with block-sparse attention"),
    *same_answer(
        "enable_pos_shift", "nothing", "gone", "it went with StreamingLLM, which 1.2 has no more"
    ),
    *same_answer(
        "use_prompt_tuning",
        "nothing",
        "no effect",
        "`engine.max_prompt_embedding_table_size` says it",
    ),
    *same_answer(
        "hf_lora_dir",
        "several",
        "not in this version",
        "this version puts nothing of an adapter into the checkpoint: adapters are given at run "
        "time, for `engine.lora_plugin` and `engine.lora_target_modules`",
    ),
]

_CALIBRATING = [
    *same_answer(
        "calib_dataset calib_size calib_max_seq_length calib_tp_size calib_pp_size "
        "dataset_cache_dir seed batch_size device device_map tokenizer_max_seq_length "
        "max_seq_length trained_gpu_num t_g",
        "one",
        "no effect",
        _CALIBRATION,
    ),
    Row(
        ("storage_type", "t", "weight_data_type"),
        "one",
        "no effect",
        "~storage_type",
        _CALIBRATION,
        values=_DTYPES,
    ),
]

_QUANTIZING = [
    *same_answer(
        "use_weight_only smoothquant_plugin use_smooth_quant use_int8_weight_only_embedding "
        "int8_kv_cache calibrate_kv_cache kv fp8_kv_cache use_fp8 enable_fp8 use_fp8_rowwise "
        "use_meta_fp8_rowwise_recipe use_nvfp4 use_qserve fp8_linear fp8 quant_medusa_head "
        "quantize_lm_head use_awq use_gptq",
        "perhaps one",
        "not in this version",
        _QUANTIZATION,
        "~quantization",
    ),
    *same_answer(
        "smoothquant sq use_smooth_quant_plugin quant_ckpt_path ammo_quant_ckpt_path "
        "modelopt_quant_ckpt_path quantized_fp8_model_path use_weight_only_with_precision "
        "autoq_format auto_quantize_bits",
        "one",
        "not in this version",
        _QUANTIZATION,
        "~quantization",
    ),
    Row(
        ("weight_only_precision",),
        "perhaps one",
        "not in this version",
        "~weight_only_precision",
        _QUANTIZATION,
    ),
    Row(("qformat",), "one", "not in this version", "~qformat", _QUANTIZATION),
    Row(("kv_cache_dtype",), "one", "not in this version", "~quantization", _QUANTIZATION),
    *same_answer(
        "per_channel per_token per_group disable_weight_only_quant_plugin",
        "perhaps one",
        "no effect",
        "it says how to quantise, which other flags ask for",
    ),
    *same_answer(
        "group_size awq_block_size",
        "one",
        "no effect",
        "it says how to quantise, which other flags ask for",
    ),
]

_OTHER_MODELS = [
    *same_answer(
        "medusa_model_dir num_medusa_heads fixed_num_medusa_heads num_medusa_layers "
        "max_medusa_token_len "
        "medusa_hidden_act eagle_model_dir num_eagle_layers max_non_leaves_per_layer "
        "max_draft_len drafter_model_dir redrafter_draft_len_per_beam redrafter_num_beams",
        "one",
        "not in this version",
        _HEADS,
    ),
    *same_answer("redrafter_no_greedy_search", "nothing", "not in this version", _HEADS),
    *same_answer(
        "nougat eclair_radio skip_cross_kv use_implicit_relative_attention",
        "nothing",
        "not in this version",
        _ENCODER,
    ),
    *same_answer("vision_tp_size vision_cp_size", "one", "not in this version", _ENCODER),
]

CONVERTER = table([*_SOURCE, *_LAYOUT, *_WORK, *_CALIBRATING, *_QUANTIZING, *_OTHER_MODELS])
"""`convert_checkpoint.py`, `quantize.py`, and the `hf_*_convert.py` of 0.5 to 0.7."""
