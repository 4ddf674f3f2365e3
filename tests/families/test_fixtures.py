"""Every architecture's checkpoint (made by tests/parity/make_fixtures.py), in every layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.checkpoint.huggingface import SourceCheckpoint, open_source_checkpoint
from pipeline.errors import RecipeError
from pipeline.families import all_families, expected_inventory, find_family
from pipeline.progress import Silent
from pipeline.weights.layout import plan_conversion, resolve_dtype
from pipeline.weights.parallel import Parallelism
from pipeline.weights.roundtrip import compare
from tests.families.fixtures import FIXTURES, NAMES, layouts
from tests.weights.converting import assert_as_oracle, convert, load_all, plan, read_ranks

LLAMAS = [name for name in NAMES if name.startswith(("llama", "mistral"))]
DTYPES = ["auto", "bfloat16", "float16", "float32"]


def test_there_are_fixtures_of_every_architecture() -> None:
    found = {open_source_checkpoint(FIXTURES / name).architecture for name in NAMES}
    claimed = {name for family in all_families() for name in family.architectures}
    same_layout = {alias for family in all_families() for alias in family.aliases}
    assert claimed - same_layout - found == set()


def converted(
    source: SourceCheckpoint, folder: Path, parallelism: Parallelism, dtype: str, out: Path
) -> tuple[Path, Any]:
    """A conversion and the record of its round trip."""
    family = find_family(source.architecture)
    made = plan_conversion(source, family, parallelism, resolve_dtype(dtype, source))
    return convert(made, folder, out), compare(made, folder, out, Silent())


@pytest.mark.parametrize("name", NAMES)
def test_fixtures_convert_and_come_back(name: str, tmp_path: Path) -> None:
    """In every layout and dtype, the rank files are what the loader requires and hold the source.

    (`convert` and `compare` both check the inventory; here it is checked on what was read back.)
    """
    folder = FIXTURES / name
    source = open_source_checkpoint(folder)
    for number, parallelism in enumerate(layouts(source)):
        dtypes = DTYPES if number == 0 else DTYPES[:1]
        for dtype in dtypes:
            target = tmp_path / f"{number} {dtype}"
            out, record = converted(source, folder, parallelism, dtype, target)
            config = json.loads((out / "config.json").read_text())
            assert config["architecture"] in (
                source.architecture,
                find_family(source.architecture).writes_architecture,
            )
            ranks = read_ranks(out)
            assert len(ranks) == parallelism.num_files
            for rank, arrays in enumerate(ranks):
                found = {key: (str(value.dtype), value.shape) for key, value in arrays.items()}
                assert found == expected_inventory(config, rank)
            held = record["source_tensors"] + record["dropped_tensors"]
            assert held == len(source.tensors)
            if dtype == "auto":
                # Only what is float32 by rule (routers) may be cast.
                cast = [key for key in source.tensors if "router" in key or "gate" in key]
                assert record["cast_tensors"] <= len(cast)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LLAMAS)
def test_llamas_are_as_a_second_converter_makes_them(name: str, dtype: str, tmp_path: Path) -> None:
    source = open_source_checkpoint(FIXTURES / name)
    resolved = resolve_dtype(dtype, source)
    for number, (tp_size, pp_size) in enumerate([(1, 1), (2, 2)]):
        made = plan(FIXTURES / name, tp_size, pp_size, resolved)
        out = convert(made, FIXTURES / name, tmp_path / f"out{number}")
        arrays = load_all(FIXTURES / name)
        assert_as_oracle(out, arrays, source.config, tp_size, pp_size, resolved)


def test_the_result_does_not_depend_on_how_it_is_made(tmp_path: Path) -> None:
    """Any memory, any number of threads: the same bytes, also where values are computed."""
    for name in ("gpt2", "phi3", "deepseek-v2", "baichuan2", "falcon-40b"):
        made = plan(FIXTURES / name, 2, 1, "float16")
        results = []
        for number, (block, threads) in enumerate([(1 << 23, 1), (777, 3)]):
            out = convert(
                made,
                FIXTURES / name,
                tmp_path / name / str(number),
                max_block_bytes=block,
                num_threads=threads,
            )
            results.append({path.name: path.read_bytes() for path in out.iterdir()})
        assert results[0] == results[1], name


def comparable(config: Any) -> Any:
    """A config in which a rope scaling names its type in one of two ways."""
    plain = json.loads(json.dumps(config))
    scaling = plain.get("rotary_scaling") or {}
    scaling["rope_type"] = scaling.pop("type", scaling.get("rope_type"))
    return plain


@pytest.mark.parametrize("name", [n for n in NAMES if (FIXTURES / n / "config-v4.json").exists()])
def test_both_spellings_of_a_config_make_the_same(name: str, tmp_path: Path) -> None:
    """transformers 4 and 5 write other keys for the same model: the targets are equal."""
    older = Path(shutil.copytree(FIXTURES / name, tmp_path / "source"))
    (older / "config-v4.json").replace(older / "config.json")
    assert "rope_parameters" not in json.loads((older / "config.json").read_text())
    one, other = plan(FIXTURES / name, 2), plan(older, 2)
    assert comparable(one.config) == comparable(other.config)
    assert one.ranks == other.ranks


def test_the_rope_of_a_fixture_is_passed_on() -> None:
    made = plan(FIXTURES / "llama3-rope")
    assert made.config["rotary_base"] == 500000.0
    assert made.config["rotary_scaling"] == {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }


def test_a_window_is_told_apart_from_full_attention() -> None:
    for name, window in {"mistral": None, "mistral-window": 32, "llama": None}.items():
        assert plan(FIXTURES / name).translation.window == window


def test_tp_that_does_not_fit_is_refused_with_those_that_do() -> None:
    with pytest.raises(RecipeError, match=r"`checkpoint\.tp_size` is 4") as caught:
        plan(FIXTURES / "mistral", 4)
    assert caught.value.hint == "tp sizes that work for this model: 1, 2"


@pytest.mark.parametrize(
    ("parallelism", "message", "hint"),
    [
        (Parallelism(3, moe_ep_size=3), "`checkpoint.moe_ep_size` is 3", "1, 2, 4"),
        (Parallelism(2, 1, 2, moe_ep_size=2), "`checkpoint.cp_size` is 2", "set one of them to 1"),
    ],
)
def test_expert_layouts_that_do_not_fit(parallelism: Parallelism, message: str, hint: str) -> None:
    source = open_source_checkpoint(FIXTURES / "mixtral")
    family = find_family(source.architecture)
    with pytest.raises(RecipeError) as caught:
        plan_conversion(source, family, parallelism, "bfloat16")
    assert message in caught.value.message or "tp_size" in caught.value.message
    assert caught.value.hint is not None


def test_experts_without_experts_are_refused() -> None:
    source = open_source_checkpoint(FIXTURES / "llama")
    family = find_family(source.architecture)
    with pytest.raises(RecipeError, match="the model has no experts"):
        plan_conversion(source, family, Parallelism(2, moe_ep_size=2), "bfloat16")


def test_context_parallel_ranks_share_their_files(tmp_path: Path) -> None:
    source = open_source_checkpoint(FIXTURES / "llama")
    out, _ = converted(source, FIXTURES / "llama", Parallelism(2, 1, 2), "auto", tmp_path / "o")
    plain, _ = converted(source, FIXTURES / "llama", Parallelism(2), "auto", tmp_path / "p")
    assert json.loads((out / "config.json").read_text())["mapping"]["world_size"] == 4
    for path in plain.glob("rank*"):
        assert path.read_bytes() == (out / path.name).read_bytes()


def test_clamping_is_asked_for(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "llama", tmp_path / "source"))
    source = open_source_checkpoint(folder)
    info = source.tensors["model.norm.weight"]
    with (folder / info.file).open("r+b") as file:
        file.seek(info.offset)
        file.write(np.array([1e30, -1e30], "float32").view(np.uint16)[1::2].tobytes())
    family = find_family(source.architecture)
    failing = plan_conversion(source, family, Parallelism(), "float16")
    with pytest.raises(RecipeError, match="1 tensor cannot be cast") as caught:
        convert(failing, folder, tmp_path / "failed")
    assert "checkpoint.clamp: true" in (caught.value.hint or "")
    made = plan_conversion(source, family, Parallelism(), "float16", clamp=True)
    out = convert(made, folder, tmp_path / "out")
    norm = read_ranks(out)[0]["transformer.ln_f.weight"]
    assert norm[:2].tolist() == [65504.0, -65504.0]
    assert compare(made, folder, out, Silent())["largest_absolute_error"]["value"] > 1e29
