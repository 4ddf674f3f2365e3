"""The round trip: finds every wrong byte of a rank file, whatever made it."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.checkpoint.safetensors_file import read_header
from pipeline.errors import VerificationError
from pipeline.families import find_family
from pipeline.progress import Silent
from pipeline.weights.layout import ConversionPlan
from pipeline.weights.roundtrip import compare
from pipeline.weights.rules import Drop, Make, Pick, Shard, WeightRule
from tests import tiny
from tests.weights.converting import convert, plan

FAMILY = find_family("LlamaForCausalLM")
BIASED = {**tiny.CONFIG, "attention_bias": True, "mlp_bias": True}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_checkpoint(tmp_path_factory.mktemp("source") / "c", BIASED, dtype="float32")


def told(error: VerificationError) -> str:
    return "\n".join([error.message, *error.facts])


@pytest.mark.parametrize("block_bytes", [1, 777, 1 << 24])
@pytest.mark.parametrize(("tp_size", "pp_size"), [(1, 1), (2, 2), (6, 1), (1, 3)])
def test_a_good_conversion_passes_in_any_layout(
    tp_size: int, pp_size: int, block_bytes: int, source: Path, tmp_path: Path
) -> None:
    made = plan(source, tp_size, pp_size, "float32")
    out = convert(made, source, tmp_path / "out")
    record = compare(made, source, out, Silent(), max_block_bytes=block_bytes)
    arrays = tiny.tensors(BIASED, "float32")
    assert record == {
        "source_tensors": len(arrays),
        "source_bytes": sum(array.nbytes for array in arrays.values()),
        "target_tensors": sum(len(rank.tensors) for rank in made.ranks),
        "target_bytes": sum(rank.num_bytes - len(rank.header) for rank in made.ranks),
        "exact_tensors": len(arrays),
        "cast_tensors": 0,
        "changed_tensors": 0,
        "dropped_tensors": 0,
        "largest_absolute_error": None,
        "largest_relative_error": None,
    }


@pytest.mark.parametrize("target", ["bfloat16", "float16"])
def test_errors_of_casts_are_those_of_the_values(target: str, source: Path, tmp_path: Path) -> None:
    made = plan(source, 2, 1, target)
    record = compare(made, source, convert(made, source, tmp_path / "out"), Silent())
    absolute, relative = {}, {}
    for name, array in tiny.tensors(BIASED, "float32").items():
        exact = array.astype(np.float64)
        error = np.abs(array.astype(tiny.NUMPY_DTYPES[target]).astype(np.float64) - exact)
        absolute[name], relative[name] = error.max(), (error / np.abs(exact)).max()
    for key, errors in {"absolute": absolute, "relative": relative}.items():
        found = record[f"largest_{key}_error"]
        assert found["value"] == pytest.approx(max(errors.values()), rel=1e-6)
        assert errors[found["tensor"]] == pytest.approx(found["value"], rel=1e-6)
    assert (record["exact_tensors"], record["cast_tensors"]) == (0, len(absolute))


def test_a_widening_cast_has_no_error(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint(tmp_path / "source", dtype="bfloat16")
    made = plan(folder, dtype="float32")
    record = compare(made, folder, convert(made, folder, tmp_path / "out"), Silent())
    assert record["cast_tensors"] == 30
    assert record["largest_absolute_error"] is record["largest_relative_error"] is None


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_any_flipped_bit_is_found_and_named(dtype: str, source: Path, tmp_path: Path) -> None:
    made = plan(source, 2, 2, dtype)
    out = convert(made, source, tmp_path / "out")
    rng = random.Random(7)
    for _ in range(40):
        path = out / f"rank{rng.randrange(4)}.safetensors"
        info = rng.choice(list(read_header(path).values()))
        good = path.read_bytes()
        broken = bytearray(good)
        broken[info.offset + rng.randrange(info.num_bytes)] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        with pytest.raises(VerificationError) as caught:
            compare(made, source, out, Silent())
        assert f"of `{info.name}` in `{path.name}` is" in told(caught.value)
        path.write_bytes(good)
    compare(made, source, out, Silent())


def test_padding_must_be_zero(source: Path, tmp_path: Path) -> None:
    made = plan(source, 2, 1, "float32")
    out = convert(made, source, tmp_path / "out")
    info = read_header(out / "rank1.safetensors")["lm_head.weight"]
    with (out / "rank1.safetensors").open("r+b") as file:
        file.seek(info.offset + info.num_bytes - 1)
        file.write(b"\x80")  # a negative zero
    with pytest.raises(VerificationError) as caught:
        compare(made, source, out, Silent())
    assert "row 56 of `lm_head.weight` in `rank1.safetensors` is padding, but not zero" in told(
        caught.value
    )


def test_swapped_rank_files_are_found(source: Path, tmp_path: Path) -> None:
    made = plan(source, 2, 1, "float32")
    out = convert(made, source, tmp_path / "out")
    (out / "rank0.safetensors").rename(out / "x")
    (out / "rank1.safetensors").rename(out / "rank0.safetensors")
    (out / "x").rename(out / "rank1.safetensors")
    with pytest.raises(VerificationError) as caught:
        compare(made, source, out, Silent())
    assert "`transformer.layers.0.mlp.fc.weight` in `rank0.safetensors`" in told(caught.value)
    assert "input_layernorm" not in told(caught.value)  # whole on every rank


@pytest.mark.parametrize("fault", ["missing", "extra", "renamed", "shape", "dtype"])
def test_rank_files_must_hold_exactly_the_inventory(
    fault: str, source: Path, tmp_path: Path
) -> None:
    made = plan(source, dtype="float32")
    out = convert(made, source, tmp_path / "out")
    from tests.weights.converting import read_ranks

    (arrays,) = read_ranks(out)
    name = "transformer.layers.1.mlp.gate.bias"
    if fault == "missing":
        del arrays[name]
    elif fault == "extra":
        arrays["transformer.layers.3.mlp.gate.bias"] = arrays[name]
    elif fault == "renamed":
        arrays["transformer.layers.1.mlp.gates.bias"] = arrays.pop(name)
    elif fault == "shape":
        arrays[name] = arrays[name].reshape(2, 36)
    else:
        arrays[name] = arrays[name].astype(np.float16)
    tiny.write_weights(out / "rank0.safetensors", arrays)
    with pytest.raises(VerificationError) as caught:
        compare(made, source, out, Silent())
    expected = {
        "missing": f"`{name}` of `rank0.safetensors` is missing",
        "extra": "`transformer.layers.3.mlp.gate.bias` of `rank0.safetensors` is not required",
        "renamed": f"`{name}` of `rank0.safetensors` is missing",
        "shape": f"`{name}` of `rank0.safetensors` is float32 [2, 36], expected float32 [72]",
        "dtype": f"`{name}` of `rank0.safetensors` is float16 [72], expected float32 [72]",
    }
    assert expected[fault] in told(caught.value)


def test_a_changed_config_is_found(source: Path, tmp_path: Path) -> None:
    made = plan(source, dtype="float32")
    out = convert(made, source, tmp_path / "out")
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "rotary_base": 5e5}))
    with pytest.raises(VerificationError) as caught:
        compare(made, source, out, Silent())
    assert caught.value.facts == ("`rotary_base` differs",)


def test_a_changed_source_is_found(source: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(source, tmp_path / "source")
    made = plan(folder, dtype="float32")
    out = convert(made, folder, tmp_path / "out")
    info = made.source.tensors["model.layers.2.self_attn.v_proj.bias"]
    with (folder / info.file).open("r+b") as file:
        file.seek(info.offset)
        file.write(b"\x01")
    with pytest.raises(VerificationError) as caught:
        compare(made, folder, out, Silent())
    assert "is not what `model.layers.2.self_attn.v_proj.bias` holds" in told(caught.value)


def with_rules(rules: list[WeightRule]) -> Any:
    return dataclasses.replace(FAMILY, weight_map=tuple(rules))


def swapped(one: str, other: str) -> list[WeightRule]:
    """The rules with two source names exchanged wherever they stand."""
    rules: list[WeightRule] = []
    for rule in FAMILY.weight_map:
        names = {one: other, other: one}

        def change(name: str, names: dict[str, str] = names) -> str:
            for old, new in names.items():
                if f".{old}." in name:
                    return name.replace(f".{old}.", f".{new}.")
            return name

        if isinstance(rule, Make):
            parts = [dataclasses.replace(part, source=change(part.source)) for part in rule.sources]
            rules.append(dataclasses.replace(rule, parts=tuple(parts)))
        else:
            rules.append(dataclasses.replace(rule, source=change(rule.source)))
    return rules


def caught_by(family: Any, source: Path, out: Path, tp_size: int = 2) -> str:
    """`plan` or `compare`, whichever refuses a conversion by these rules; fails if none does."""
    try:
        made: ConversionPlan = plan(source, tp_size, 1, "float32", family)
    except VerificationError:
        return "plan"
    convert(made, source, out)
    with pytest.raises(VerificationError):
        compare(made, source, out, Silent())
    return "compare"


@pytest.mark.parametrize(("one", "other"), [("q_proj", "k_proj"), ("down_proj", "up_proj")])
def test_sources_of_other_shapes_that_are_swapped(
    one: str, other: str, source: Path, tmp_path: Path
) -> None:
    assert caught_by(with_rules(swapped(one, other)), source, tmp_path / "out") == "plan"


MAKING = [rule for rule in FAMILY.weight_map if not isinstance(rule, Drop)]
# The rule of tied models does not apply here.
APPLIED = [rule for rule in MAKING if rule.when != "tie_word_embeddings"]


@pytest.mark.parametrize("rule", APPLIED, ids=lambda rule: str(rule.target))
def test_a_rule_that_is_left_out(rule: WeightRule, source: Path, tmp_path: Path) -> None:
    rules = [other for other in FAMILY.weight_map if other is not rule]
    assert caught_by(with_rules(rules), source, tmp_path / "out") == "plan"
    assert isinstance(rule, Make)
    dropping = [*rules, *(Drop(part.source, "forgotten") for part in rule.sources)]
    assert caught_by(with_rules(dropping), source, tmp_path / "dropped") == "plan"


@pytest.mark.parametrize("rule", APPLIED, ids=lambda rule: str(rule.target))
def test_a_rule_that_stands_twice(rule: WeightRule, source: Path, tmp_path: Path) -> None:
    rules = [*FAMILY.weight_map, rule]
    assert caught_by(with_rules(rules), source, tmp_path / "out") == "plan"


SHARDED = [rule for rule in APPLIED if len(rule.parts) == 1 and len(rule.sources[0].shape) == 2]


def resharded(rule: Make, shards: tuple[Shard, ...]) -> list[WeightRule]:
    """The rules with all parts of one shared in another way."""
    parts = tuple(dataclasses.replace(part, shards=shards) for part in rule.sources)
    changed = dataclasses.replace(rule, parts=parts)
    return [changed if other is rule else other for other in FAMILY.weight_map]


@pytest.mark.parametrize("rule", SHARDED, ids=lambda rule: rule.target)
def test_a_wrong_shard_dim(rule: Make, source: Path, tmp_path: Path) -> None:
    shards = rule.sources[0].shards
    dim = 1 - shards[0].dim if shards and shards[0].over == "tp" else 0
    rules = resharded(rule, (Shard(dim, "num_attention_heads"),))
    assert caught_by(with_rules(rules), source, tmp_path / "out") == "plan"


SHARED = [rule for rule in APPLIED if any(s.over == "tp" for p in rule.sources for s in p.shards)]


@pytest.mark.parametrize("rule", SHARED, ids=lambda rule: str(rule.target))
def test_a_shard_that_is_not_made(rule: Make, source: Path, tmp_path: Path) -> None:
    rules = resharded(rule, ())
    assert caught_by(with_rules(rules), source, tmp_path / "out") == "plan"


def test_values_that_are_taken_twice_leave_others_out(source: Path, tmp_path: Path) -> None:
    """Keys for values: all shapes are right, but nothing holds the values."""
    rules = list(FAMILY.weight_map)
    place = next(
        n for n, rule in enumerate(rules) if isinstance(rule, Make) and len(rule.parts) > 1
    )
    stacked = rules[place]
    assert isinstance(stacked, Make)
    queries, keys, _ = stacked.sources
    rules[place] = dataclasses.replace(stacked, parts=(queries, keys, keys))
    unused = [Drop(part.source, "forgotten", rows=("0", "0")) for part in stacked.sources[2:]]
    assert caught_by(with_rules([*rules, *unused]), source, tmp_path / "out") == "plan"


@pytest.mark.parametrize("pick", [Pick(0, "1", "0", "hidden_size - 1"), None])
def test_rows_that_no_rank_holds(pick: Pick | None, tmp_path: Path) -> None:
    """A part of a tensor that nobody takes must be dropped by name."""
    family = with_rules([_picked(rule, pick) for rule in FAMILY.weight_map])
    folder = tiny.write_checkpoint(tmp_path / "source", tiny.CONFIG)
    made = plan(folder, family=family)
    out = convert(made, folder, tmp_path / "out")
    if pick is None:
        compare(made, folder, out, Silent())
        return
    with pytest.raises(VerificationError) as caught:
        compare(made, folder, out, Silent())
    assert "rows 47:48 of `model.norm.weight` are not whole in the rank files" in told(caught.value)


def _picked(rule: WeightRule, pick: Pick | None) -> WeightRule:
    """The final norm without its last value, which stands twice."""
    if not isinstance(rule, Make) or rule.target != "transformer.ln_f.weight" or pick is None:
        return rule
    (part,) = rule.sources
    last = dataclasses.replace(part, pick=Pick(0, "1", "0", "1"))
    return dataclasses.replace(rule, parts=(dataclasses.replace(part, pick=pick), last))


def test_a_source_tensor_that_nobody_holds(source: Path, tmp_path: Path) -> None:
    made = plan(source, dtype="float32")
    out = convert(made, source, tmp_path / "out")
    extra = dict(made.source.tensors)
    extra["model.layers.0.mlp.extra.weight"] = extra["model.norm.weight"]
    changed = dataclasses.replace(made, source=dataclasses.replace(made.source, tensors=extra))
    with pytest.raises(VerificationError) as caught:
        compare_without_headers(changed, source, out)
    assert "`model.layers.0.mlp.extra.weight` is in no rank file" in told(caught.value)


def compare_without_headers(made: ConversionPlan, source: Path, out: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.weights.roundtrip.check_source", lambda *_: None)
        compare(made, source, out, Silent())


def test_the_inventory_names_each_parameter_once() -> None:
    parameters = FAMILY.model_class.parameters
    dense = [parameter.name for parameter in parameters if parameter.when != "moe.num_experts > 0"]
    assert len(dense) == len(set(dense)) == 15
