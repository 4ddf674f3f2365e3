"""No flag of any program is passed over: each has a row, and each row gives an answer."""

from __future__ import annotations

import pytest

from pipeline.migration.build_rows import OLD_BUILD, trtllm_build
from pipeline.migration.converter_rows import CONVERTER
from pipeline.migration.migrate import migrate
from pipeline.migration.programs import tables_of
from pipeline.migration.rows import Row, spelling
from pipeline.migration.run_rows import RUN
from pipeline.recipe.sections import sections
from pipeline.trtllm.facts import facts
from pipeline.trtllm.left_out import DECIDED, GONE
from pipeline.trtllm.options import options

# `convert_checkpoint.py` of Llama (1.2), then what those of other models have beside it.
LLAMA_CONVERTER = """
model_dir meta_ckpt_dir output_dir save_config_only tp_size pp_size cp_size moe_tp_size
moe_ep_size workers dtype use_weight_only weight_only_precision group_size
disable_weight_only_quant_plugin smoothquant per_channel per_token int8_kv_cache calib_dataset
calib_size calib_max_seq_length use_fp8 fp8_kv_cache use_fp8_rowwise use_meta_fp8_rowwise_recipe
use_nvfp4 quant_ckpt_path use_qserve per_group load_by_shard load_model_on_cpu
use_parallel_embedding embedding_sharding_dim remove_duplicated_kv_heads log_level
"""
OTHER_CONVERTERS = """
ckpt_type output_model_dir world_size use_weight_only_with_precision
use_int8_weight_only_embedding enable_fp8 use_smooth_quant use_smooth_quant_plugin
calibrate_kv_cache kv sq tokenizer_dir gpt_variant nemo_ckpt_path nemo_rename_key
dataset_cache_dir chatglm_version device logits_dtype model_version moe_num_experts moe_top_k
moe_renorm_mode rotary_base rotary_scaling rotary_dim norm_eps vocab_size n_positions n_layer
n_head n_kv_head n_embd inter_size rms_norm_eps hidden_act multiple_of ffn_dim_multiplier clip_qkv
use_preloading use_safetensors_loading trust_remote_code dense_context_fmha enable_pos_shift
use_prompt_tuning storage_type convert_model_on_cpu medusa_model_dir num_medusa_heads
num_medusa_layers max_medusa_token_len medusa_hidden_act eagle_model_dir max_draft_len
num_eagle_layers max_non_leaves_per_layer model_type base_model_checkpoint_dir drafter_model_dir
redrafter_draft_len_per_beam redrafter_num_beams redrafter_no_greedy_search weights_dir
"""
QUANTIZE = """
model_dir nemo_ckpt_path decoder_type device device_map calib_dataset calib_tp_size calib_pp_size
dtype qformat seed tokenizer_max_seq_length batch_size calib_size calib_max_seq_length output_dir
tp_size pp_size cp_size awq_block_size kv_cache_dtype quantize_lm_head num_medusa_heads
num_medusa_layers max_draft_len medusa_hidden_act medusa_model_dir quant_medusa_head autoq_format
auto_quantize_bits
"""
# `build.py` of Llama in 0.5 to 0.7.
OLD_LLAMA_BUILD = """
world_size tp_size pp_size model_dir ft_model_dir meta_ckpt_dir quant_ckpt_path dtype timing_cache
log_level vocab_size n_layer n_positions n_embd n_head n_kv_head multiple_of ffn_dim_multiplier
inter_size hidden_act rms_norm_eps max_batch_size max_input_len max_output_len max_beam_width
rotary_base rotary_scaling use_gpt_attention_plugin use_gemm_plugin use_rmsnorm_plugin
parallel_build enable_context_fmha enable_context_fmha_fp32_acc visualize enable_debug_output
gpus_per_node builder_opt output_dir remove_input_padding use_smooth_quant per_channel per_token
per_group group_size int8_kv_cache use_parallel_embedding embedding_sharding_dim enable_fp8
fp8_kv_cache quantized_fp8_model_path use_weight_only weight_only_precision use_inflight_batching
paged_kv_cache tokens_per_block max_num_tokens strongly_typed use_custom_all_reduce
"""


@pytest.mark.parametrize("flag", f"{LLAMA_CONVERTER} {OTHER_CONVERTERS} {QUANTIZE}".split())
def test_flags_of_converters_have_a_row(flag: str) -> None:
    assert CONVERTER[flag].why or CONVERTER[flag].key


@pytest.mark.parametrize("flag", facts()["trtllm_build_flags"])
def test_flags_of_trtllm_build_have_a_row(flag: str) -> None:
    row = trtllm_build()[spelling(flag)]
    assert row.verdict in ("kept", "renamed", "decided", "gone")


@pytest.mark.parametrize("name", [*options(), *GONE, *DECIDED])
def test_names_of_a_build_config_have_a_row(name: str) -> None:
    assert name in trtllm_build()


@pytest.mark.parametrize("flag", OLD_LLAMA_BUILD.split())
def test_flags_of_the_old_build_have_a_row(flag: str) -> None:
    assert any(flag in table for table in tables_of("old build"))


def test_recipe_keys_of_rows_exist() -> None:
    for table in (trtllm_build(), CONVERTER, OLD_BUILD, RUN):
        for row in table.values():
            if row.key is not None and not row.key.startswith("~"):
                *path, last = row.key.split(".")
                assert last in sections()[tuple(path)].model_fields


def _value(row: Row) -> str:
    """A value that a flag may have."""
    if row.takes == "nothing":
        return ""
    if row.values:
        return str(next(iter(row.values)))
    return "4"


PROGRAMS = {
    "python3 convert_checkpoint.py --model_dir a/b --output_dir c": ("convert", CONVERTER),
    "trtllm-build --checkpoint_dir c --output_dir e": ("build", trtllm_build()),
    "python3 build.py --max_output_len 8 --model_dir a/b": ("old build", OLD_BUILD),
}


@pytest.mark.parametrize(
    ("program", "flag"),
    [(program, flag) for program, (_, table) in PROGRAMS.items() for flag in table],
)
def test_each_flag_is_answered_once(program: str, flag: str) -> None:
    kind, table = PROGRAMS[program]
    convert = "python3 convert_checkpoint.py --model_dir a/b --output_dir c\n"
    line = f"{program} --{flag} {_value(table[flag])}"
    migration = migrate(f"{convert}{line}" if kind == "build" else line)
    ((_, answers),) = migration.answers
    shown = [each.shown.split()[0] for each in answers if each.line == line_of(kind)]
    assert shown.count(f"--{flag}") == 1 + (f"--{flag} " in program)
    assert all(
        each.why or each.verdict in ("kept", "renamed", "now the default") for each in answers
    )


def line_of(kind: str) -> int:
    """The line of the program's command in the scripts of this test."""
    return 2 if kind == "build" else 1
