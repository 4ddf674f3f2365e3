"""What flags mean together: lengths, ranks, attention, sources, several engines."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.migration.draft import Answer
from pipeline.migration.migrate import Migration, Options, migrate
from pipeline.recipe.load import LoadedRecipe, load_recipe

CONVERT = "python3 convert_checkpoint.py --model_dir owner/model --output_dir c --dtype float16"
BUILD = "trtllm-build --checkpoint_dir c --output_dir e"


def _answer(migration: Migration, flag: str) -> Answer:
    """The answer to the only flag of this name."""
    found = [
        each
        for _, answers in migration.answers
        for each in answers
        if each.shown.split(" ")[0] == flag
    ]
    assert len(found) == 1, flag
    return found[0]


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def loading(text: str, variant: str | None = None, **options: Any) -> LoadedRecipe:
        migration = migrate(text, Options(**options))
        path = tmp_path / "recipe.yaml"
        path.write_text(migration.recipe, encoding="utf-8")
        return load_recipe(path, variant=variant)

    return loading


@pytest.mark.parametrize(
    ("flags", "lengths"),
    [
        ("", (1024, 2048)),
        ("--max_input_len 100", (100, 2048)),
        ("--max_input_len 3000", (3000, 4024)),
        ("--max_seq_len 4096", (1024, 4096)),
        ("--max_seq_len 512", (511, 512)),
        ("--max_decoder_seq_len 512 --max_input_len 500", (500, 512)),
        ("--max_input_len 2048 --max_output_len 512", (2048, 2560)),
        ("--max_output_len 512", (1024, 1536)),
        ("--max_input_len 16384 --max_seq_len 16384", (16383, 16384)),
        ("--max_input_len 100 --max_output_len 28 --max_seq_len 128", (100, 128)),
        ("--max_input_len 100 --max_output_len 50 --max_seq_len 128", (100, 128)),
    ],
)
def test_lengths(load: Any, flags: str, lengths: tuple[int, int]) -> None:
    engine = load(f"{CONVERT}\n{BUILD} {flags}").recipe.engine
    assert (engine.max_input_len, engine.max_seq_len) == lengths


def test_lengths_that_do_not_add_up_are_said() -> None:
    flags = "--max_input_len 100 --max_output_len 50 --max_seq_len 128"
    answer = _answer(migrate(f"{CONVERT}\n{BUILD} {flags}"), "--max_output_len")
    assert answer.verdict == "contradictory"
    assert "150" in answer.why
    assert "128" in answer.why


@pytest.mark.parametrize(
    "flags",
    [
        "--max_input_len $X --max_seq_len 64",
        "--max_input_len 8 --max_seq_len $X",
        "--max_input_len $X --max_output_len 64",
        "--max_input_len 8 --max_output_len $X",
        "--max_output_len $X --max_seq_len 64",
        "--max_input_len abc --max_output_len 64",
    ],
)
def test_a_length_that_is_not_known_hides_no_other(flags: str) -> None:
    migration = migrate(f"{CONVERT}\n{BUILD} {flags}")
    assert not migration.is_whole
    answered = [each.shown for _, answers in migration.answers for each in answers]
    assert [word for word in flags.split() if word.startswith("--")] == [
        shown.split(" ")[0] for shown in answered if shown.startswith("--max_")
    ]


def test_limits_that_nobody_gave_are_stated_with_what_they_were() -> None:
    migration = migrate(f"{CONVERT}\n{BUILD}")
    ((_, unwritten),) = migration.unwritten
    assert {each.key: each.was for each in unwritten} == {
        "engine.max_batch_size": "2048",
        "engine.max_seq_len": "what the model allows",
        "engine.max_num_tokens": "8192",
    }
    assert "max_batch_size: 8 # not given: TensorRT-LLM took 2048" in migration.recipe


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ("--world_size 4", (4, 1)),
        ("--world_size 4 --tp_size 2 --pp_size 2", (2, 2)),
        ("--world_size 4 --pp_size 2", (2, 2)),
        ("--world-size 2", (2, 1)),
        ("--tp_size 2", (2, 1)),
    ],
)
def test_ranks(load: Any, sizes: str, expected: tuple[int, int]) -> None:
    checkpoint = load(f"{CONVERT} {sizes}").recipe.checkpoint
    assert (checkpoint.tp_size, checkpoint.pp_size) == expected


def test_ranks_that_contradict_are_said() -> None:
    migration = migrate(f"{CONVERT} --world_size 8 --tp_size 2")
    assert _answer(migration, "--world_size").verdict == "contradictory"
    migration = migrate(f"{CONVERT} --tp_size 2\n{BUILD} --tp_size 4")
    answers = [each for _, of in migration.answers for each in of if "tp_size 4" in each.shown]
    assert [each.verdict for each in answers] == ["contradictory"]
    assert "tp_size: 2" in migration.recipe


@pytest.mark.parametrize("flag", ["--context_fmha disable", "--gpt_attention_plugin disable"])
def test_unfused_attention_is_what_the_old_command_asked_for(load: Any, flag: str) -> None:
    engine = load(f"{CONVERT}\n{BUILD} {flag}").recipe.engine
    assert not engine.attention.context_fmha
    assert not engine.attention.require_fused
    assert not engine.use_paged_context_fmha
    assert engine.gpt_attention_plugin == "auto"
    fused = load(f"{CONVERT}\n{BUILD}").recipe.engine.attention
    assert fused.context_fmha
    assert fused.require_fused


@pytest.mark.parametrize("flag", ["--paged_kv_cache disable", "--remove_input_padding disable"])
def test_what_cannot_be_run_any_more_is_gone(load: Any, flag: str) -> None:
    migration = migrate(f"{CONVERT}\n{BUILD} {flag}")
    assert _answer(migration, flag.split(" ", maxsplit=1)[0]).verdict == "gone"
    engine = load(f"{CONVERT}\n{BUILD} {flag}").recipe.engine
    assert engine.kv_cache_type == "paged"
    assert engine.remove_input_padding


@pytest.mark.parametrize(
    ("convert", "build", "types"),
    [
        ("", "--gemm_plugin bfloat16", ("bfloat16", "bfloat16")),
        ("", "--gpt_attention_plugin float16 --gemm_plugin float16", ("float16", "float16")),
        ("", "--gpt_attention_plugin float16 --gemm_plugin bfloat16", ("auto", "bfloat16")),
        ("", "--gemm_plugin auto", ("auto", "auto")),
        ("--dtype bfloat16", "--gemm_plugin float16", ("bfloat16", "auto")),
        ("--dtype auto", "--gemm_plugin float16", ("auto", "float16")),
    ],
)
def test_types(load: Any, convert: str, build: str, types: tuple[str, str]) -> None:
    plain = CONVERT.replace(" --dtype float16", "")
    recipe = load(f"{plain} {convert}\n{BUILD} {build}").recipe
    assert (recipe.checkpoint.dtype, recipe.engine.gemm_plugin) == types


def test_a_plugin_of_another_type_is_said() -> None:
    flag = "--gpt_attention_plugin"
    migration = migrate(f"{CONVERT}\n{BUILD} {flag} bfloat16")
    assert _answer(migration, flag).verdict == "contradictory"
    assert "gpt_attention_plugin" not in migration.recipe


def test_what_an_old_build_did_not_do_unasked_is_said() -> None:
    migration = migrate("python build.py --model_dir a/b --use_gpt_attention_plugin float16")
    ((_, unwritten),) = migration.unwritten
    assert {each.key: each.was for each in unwritten} == {
        "engine.attention.context_fmha": "off",
        "engine.kv_cache_type": "continuous",
        "engine.remove_input_padding": "off",
        "engine.max_batch_size": "the default of its `build.py`",
        "engine.max_input_len": "the default of its `build.py`",
        "engine.max_seq_len": "the default of its `build.py`",
        "engine.max_num_tokens": "the default of its `build.py`",
        "checkpoint.dtype": "what the plugins compute in",
    }


def test_limits_of_an_old_build_are_those_of_its_model() -> None:
    migration = migrate("cd examples/gpt\npython build.py --model_dir a/b --dtype float16")
    ((_, unwritten),) = migration.unwritten
    told = {each.key: each.was for each in unwritten}
    assert told["engine.max_batch_size"] == "256"
    assert told["engine.max_input_len"] == "200"
    assert told["engine.max_seq_len"] == "400"
    assert told["engine.gpt_attention_plugin"] == "off"


def test_a_layout_in_a_json_is_not_said_to_be_missing() -> None:
    migration = migrate('{"max_batch_size": 4, "tp_size": 2}', Options(source="owner/model"))
    ((_, unwritten),) = migration.unwritten
    assert _answer(migration, "tp_size").value == 2
    assert "checkpoint.tp_size" not in {each.key for each in unwritten}


def test_what_an_old_converter_wrote_is_no_source() -> None:
    migration = migrate("python build.py --model_dir c-model/gpt2/2-gpu --max_output_len 8")
    (answer,) = migration.open_answers
    assert answer.shown == "--model_dir c-model/gpt2/2-gpu"
    assert answer.why == "a converter wrote it: the script does not say what from"


CONVERTERS = ["python nemo/hf_to_trtllm.py", "python3 ${CONVERT_SCRIPT}", "RUN python a/conv.py"]


@pytest.mark.parametrize("converter", CONVERTERS)
def test_a_converter_of_another_name_is_one_where_a_build_reads_what_it_wrote(
    converter: str,
) -> None:
    flags = "--model_dir a/b --output_dir c --dtype bfloat16 --tp_size 4"
    build = "trtllm-build --checkpoint_dir c"
    assert "tp_size: 4" in migrate(f"{converter} {flags}\n{build}").recipe
    apart = migrate(f"{converter} {flags}\n{build}d")
    assert "tp_size: 4" not in apart.recipe
    assert len(apart.others) == 1
    assert [answer.shown for answer in apart.open_answers] == ["--checkpoint_dir cd"]


@pytest.mark.parametrize("model", ["m.nemo", "/models/llama.pt"])
def test_a_file_of_another_format_is_no_source(model: str) -> None:
    migration = migrate(f"python hf_llama_convert.py -i {model} -o c -t float16")
    (answer,) = migration.open_answers
    assert answer.verdict == "not in this version"
    assert not migration.is_whole


def test_a_layout_that_is_not_known_contradicts_nothing() -> None:
    migration = migrate(
        "python convert_checkpoint.py --model_dir a/b --output_dir c --tp_size $1\n"
        "trtllm-build --checkpoint_dir c --tp_size $1"
    )
    assert [a.verdict for a in migration.answers[0][1] if "tp_size" in a.shown] == [
        "not known",
        "gone",
    ]


def test_a_model_given_to_trtllm_build_is_the_source() -> None:
    assert "repo: a/b" in migrate("trtllm-build --model a/b --max_lora_rank 0").recipe


def test_two_programs_on_one_line_are_told_one_after_the_other() -> None:
    line = "python convert_checkpoint.py --model_dir a/b --output_dir c && trtllm-build "
    ((_, answers),) = migrate(line + "--checkpoint_dir c --max_batch_size 4").answers
    programs = [answer.program for answer in answers]
    assert programs == sorted(programs)


QUANTIZATIONS = [
    "--use_weight_only",
    "--use_weight_only --weight_only_precision int4",
    "--smoothquant 0.5",
    "--int8_kv_cache",
    "--use_fp8",
    "--use-weight-only-with-precision int8",
    "--quant_ckpt_path q.safetensors",
]


@pytest.mark.parametrize("flags", QUANTIZATIONS)
def test_quantization_is_never_dropped_silently(flags: str) -> None:
    migration = migrate(f"{CONVERT} {flags}\n{BUILD}")
    assert not migration.is_whole
    assert {each.verdict for each in migration.open_answers} == {"not in this version"}
    (comment,) = [line for line in migration.recipe.splitlines() if "# quantization:" in line]
    assert "not in this version" in comment
    assert flags.split(" ", maxsplit=1)[0] in comment


@pytest.mark.parametrize(
    "flags", ["--per_channel", "--weight_only_precision int8", "--group_size 64"]
)
def test_how_to_quantise_alone_asks_for_nothing(flags: str) -> None:
    migration = migrate(f"{CONVERT} {flags}\n{BUILD}")
    assert migration.is_whole
    assert _answer(migration, flags.split(" ", maxsplit=1)[0]).verdict == "no effect"


@pytest.mark.parametrize(
    ("script", "source"),
    [
        ("--model_dir ./models/x", ("path", "models/x")),
        ("--model_dir models/x", ("path", "models/x")),
        ("--model_dir /x/y/", ("path", "/x/y")),
        ("--model_dir meta-llama/Llama-2-7b-hf", ("repo", "meta-llama/Llama-2-7b-hf")),
        ("--model_dir gpt2", ("repo", "openai-community/gpt2")),
        ("--model_dir x", ("path", "x")),
    ],
)
def test_sources(load: Any, script: str, source: tuple[str, str]) -> None:
    found = load(f"python3 convert_checkpoint.py {script} --output_dir c").recipe.source
    assert getattr(found, source[0]) == source[1]


@pytest.mark.parametrize(
    "download",
    [
        "huggingface-cli download a/b --local-dir m --revision v1",
        "hf download --local-dir=./m a/b --revision=v1 --local-dir-use-symlinks False",
        "git clone -b v1 https://huggingface.co/a/b m",
        "git clone --depth 1 --branch v1 https://user:secret@huggingface.co/a/b.git ./m/",
        "GIT_LFS_SKIP_SMUDGE=1 git clone -b v1 git@hf.co:a/b m",
        "git lfs clone -b v1 https://hf.co/a/b m",
        "cd /; cd -; git-lfs clone -b v1 https://huggingface.co/a/b m",
    ],
)
def test_downloads_of_the_script_are_the_source(load: Any, download: str) -> None:
    script = f"{download}\ncd x\npython3 convert_checkpoint.py --model_dir ../m/ --output_dir c"
    source = load(script).recipe.source
    assert (source.repo, source.revision) == ("a/b", "v1")


def test_a_data_set_is_no_source(load: Any) -> None:
    script = "git clone https://huggingface.co/datasets/a/b m\n"
    source = load(f"{script}python3 convert_checkpoint.py --model_dir m").recipe.source
    assert source.path == "m"


def test_a_named_source_counts(load: Any) -> None:
    assert load(BUILD, source="a/b").recipe.source.repo == "a/b"
    assert load(BUILD, source="./a/b").recipe.source.path == "./a/b"


def test_several_engines_are_variants(load: Any) -> None:
    script = (
        f"{CONVERT}\n"
        f"{BUILD}/one --max_batch_size 1 --gemm_plugin auto --max_beam_width 2\n"
        f"{BUILD}/many --max_batch_size 64 --context_fmha disable\n"
    )
    base, variant = load(script).recipe.engine, load(script, "many").recipe.engine
    assert (base.max_batch_size, base.gemm_plugin, base.max_beam_width) == (1, "auto", 2)
    assert (variant.max_batch_size, variant.gemm_plugin, variant.max_beam_width) == (64, None, 1)
    assert base.attention.require_fused
    assert not variant.attention.require_fused


def test_a_converter_counts_until_the_next_one_writes_the_same_folder() -> None:
    again = CONVERT.replace("float16", "bfloat16")
    migration = migrate(f"{CONVERT}\n{BUILD}/a\n{again}\n{BUILD}/b")
    assert "dtype: float16" in migration.recipe
    assert "dtype: bfloat16" in migration.recipe.partition("variants:")[2]


def test_converters_in_branches_are_variants() -> None:
    other = CONVERT.replace("float16", "bfloat16 --use_weight_only")
    script = f"if $Q; then\n{CONVERT}\nelse\n{other}\nfi\n{BUILD}"
    migration = migrate(script)
    assert [label for label, _ in migration.answers] == ["", "engine-2"]
    assert not migration.is_whole
    variant = migration.recipe.partition("variants:")[2]
    assert "dtype: bfloat16" in variant
    assert "# quantization: # not in this version: --use_weight_only" in variant


def test_equal_engines_are_variants_without_changes(load: Any) -> None:
    script = f"{CONVERT}\n{BUILD}/a\n{BUILD}/b"
    assert load(script, "b").recipe == load(script).recipe


def test_prompts_of_runs_are_the_smoke_test(load: Any) -> None:
    run = 'mpirun -n 2 python3 run.py --engine_dir ./e/ --max_output_len 50 --input_text "A: b" c'
    smoke = load(f"{CONVERT}\n{BUILD}\n{run}").recipe.smoke
    assert [prompt.text for prompt in smoke.prompts] == ["A: b", "c"]
    assert smoke.max_new_tokens == 50
    other = load(f"{CONVERT}\n{BUILD}\n{run.replace('./e/', 'other')}").recipe.smoke
    assert [prompt.text for prompt in other.prompts] == ["Hello"]


def test_targets_are_said_or_the_default() -> None:
    assert "targets: [sm89, sm90]\n" in migrate(CONVERT, Options(targets=("sm89", "sm90"))).recipe
    assert "targets: [sm90] # the commands name no GPU" in migrate(CONVERT).recipe


FLAGS = {
    "max_batch_size": "4",
    "max_input_len": "100",
    "max_output_len": "28",
    "gemm_plugin": "auto",
    "gpt_attention_plugin": "float16",
    "use_paged_context_fmha": "disable",
    "kv_cache_type": "PAGED",
    "multiple_profiles": "enable",
    "max_num_tokens": "200",
    "workers": "2",
    "logits_dtype": "float16",
    "use_custom_all_reduce": "disable",
}


@examples(max_examples=50)
@given(st.permutations(sorted(FLAGS)), st.lists(st.booleans(), min_size=12, max_size=12))
def test_order_and_form_of_flags_do_not_matter(order: list[str], joined: list[bool]) -> None:
    words = [
        word
        for flag, is_joined in zip(order, joined, strict=True)
        for word in ([f"--{flag}={FLAGS[flag]}"] if is_joined else [f"--{flag}", FLAGS[flag]])
    ]
    plain = [word for flag, value in FLAGS.items() for word in (f"--{flag}", value)]
    found, expected = (
        migrate(f"{CONVERT}\n{BUILD} {shlex.join(flags)}") for flags in (words, plain)
    )
    assert found.recipe == expected.recipe
    assert {each.shown: each.verdict for each in found.answers[0][1]} == {
        each.shown: each.verdict for each in expected.answers[0][1]
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no command of TensorRT-LLM"),
        ("echo trtllm-build\ncp convert_checkpoint.py x\nls build.py", "no command of TensorRT"),
        ("python build.py --name x\npython run.py", "no command of TensorRT-LLM"),
        ("{", "cannot be read"),
        ('{"a": 1}', "no key of the JSON"),
        ('{"architectures": ["LlamaForCausalLM"]}', "config of a model"),
        ("{" * 100000, "cannot be read"),
        ("a\0b", "not a text"),
        ("#" * (1 << 19), "longer than"),
    ],
)
def test_inputs_that_are_none_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        migrate(text)


@pytest.mark.parametrize(
    "document",
    [
        '{"plugin_config": 3, "max_batch_size": 8}',
        '{"build_config": [1], "pretrained_config": "x"}',
        '{"builder_config": null, "plugin_config": []}',
        '{"build_config": {"max_batch_size": {"a": 1}, "max_input_len": null}}',
        '{"max_batch_size": "many", "max_seq_len": true, "kv_cache_type": 3}',
        '{"max_batch_size": 1e400, "lora_config": {"lora_target_modules": [{}]}}',
        '{"speculative_decoding_mode": [1], "max_seq_len": 5}',
    ],
)
def test_strange_configs_make_no_whole_recipe(document: str) -> None:
    assert not migrate(document).is_whole
