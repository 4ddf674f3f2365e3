"""A package without an engine, from a source folder to a verified release."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_source import checkpoint_files

from pipeline.errors import PlanRefused, RecipeError, VerificationError
from pipeline.hardware import Gpu, Hardware
from pipeline.progress import Silent
from pipeline.pytorch_plan import PytorchPlan, resolve_pytorch
from pipeline.recipe.load import load_recipe
from pipeline.release.verify import verify_release
from pipeline.run import StageResult, find_problems, preview, run, stages_until
from pipeline.sources.digest_memory import DigestMemory
from pipeline.stages import PYTORCH_STAGES, STAGES
from pipeline.stages.stage import AnyStage
from pipeline.store import Store
from tests.command import run_command

MACHINE = Hardware(num_cpus=2, available_memory_bytes=1 << 30, gpus=())
H100 = Hardware(2, 1 << 30, (Gpu("NVIDIA H100", "sm90", 80 << 30, "580.1"),) * 2)

RECIPE = """\
name: tiny
source: {path: source}
checkpoint: {tp_size: 2}
engine: {max_batch_size: 3, targets: [sm90], attention: {require_fused: false}}
package: {kind: pytorch}
"""
QUANTISED: dict[str, Any] = {
    "architectures": ["BrandNewForCausalLM"],
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}


class Quiet:
    """An observer that says nothing."""

    def stage_started(self, stage: AnyStage, key: str) -> Silent:
        return Silent()

    def stage_finished(self, result: StageResult) -> None:
        pass


def write_source(folder: Path, **changes: bytes | None) -> Path:
    """`folder/source`; `changes` by name, where `__` stands for a dot."""
    files = checkpoint_files()
    for name, data in changes.items():
        name = name.replace("__", ".")
        if data is None:
            del files[name]
        else:
            files[name] = data
    for name, data in files.items():
        path = folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def plan_in(folder: Path, recipe: str = RECIPE) -> PytorchPlan:
    path = folder / "recipe.yaml"
    path.write_text(recipe)
    memory = DigestMemory(folder / "store")
    return resolve_pytorch(load_recipe(path), memory=memory, hardware=MACHINE)


def release_in(folder: Path, recipe: str = RECIPE) -> Path:
    """Run both stages; the folder with the release and its tar."""
    plan, store = plan_in(folder, recipe), Store(folder / "store")
    results = run(plan, store, "package", Quiet(), lock_timeout_s=5)
    assert [result.stage.name for result in results] == ["download", "package"]
    return results[-1].artifact.path


def problems_in(folder: Path, recipe: str = RECIPE) -> list[str]:
    plan, store = plan_in(folder, recipe), Store(folder / "store")
    return [each.message for each in find_problems(plan, preview(plan, store, "package"), store)]


def test_two_stages_of_the_same_names() -> None:
    assert [stage.name for stage in PYTORCH_STAGES] == ["download", "package"]
    assert PYTORCH_STAGES[0] is STAGES[0]


def test_a_byte_of_the_source_that_changed_in_the_store_is_not_handed_out(tmp_path: Path) -> None:
    plan, store = plan_in(write_source(tmp_path)), Store(tmp_path / "store")
    (fetched,) = run(plan, store, "download", Quiet(), lock_timeout_s=5)
    path = fetched.artifact.path / "model-00001-of-00002.safetensors"
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(VerificationError, match="damaged"):
        run(plan, store, "package", Quiet(), lock_timeout_s=5)


def test_the_release_holds_the_checkpoint_as_it_was(tmp_path: Path) -> None:
    release = release_in(write_source(tmp_path)) / "tiny"
    names = {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()}
    inside = {name.removeprefix("checkpoint/") for name in names if name.startswith("checkpoint/")}
    assert inside == {
        "LICENSE",
        "additional_chat_templates/tools.jinja",
        "config.json",
        "generation_config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    for name in inside:
        assert (release / "checkpoint" / name).read_bytes() == checkpoint_files()[name]
    assert {name for name in names if "/" not in name} == {
        "LICENSE",
        "README.md",
        "SHA256SUMS",
        "attention.json",
        "carried.json",
        "manifest.json",
        "serve.yaml",
    }


def test_weights_are_linked_not_copied(tmp_path: Path) -> None:
    release = release_in(write_source(tmp_path)) / "tiny"
    name = "model-00001-of-00002.safetensors"
    (fetched,) = (tmp_path / "store/artifacts/download").glob(f"*/{name}")
    assert (release / "checkpoint" / name).stat().st_ino == fetched.stat().st_ino


def test_what_the_release_says_of_itself(tmp_path: Path) -> None:
    release = release_in(write_source(tmp_path)) / "tiny"
    options = yaml.safe_load((release / "serve.yaml").read_bytes())
    assert options["max_batch_size"] == 3
    assert options["tensor_parallel_size"] == 2
    manifest = json.loads((release / "manifest.json").read_bytes())
    assert manifest["engine"]["backend"] == "pytorch"
    assert manifest["engine"]["serve"] == options
    assert manifest["recipe"]["package"]["kind"] == "pytorch"
    assert manifest["lock"]["tools"].keys() == {"trtllm-pack"}
    assert manifest["stage_keys"].keys() == {"download"}
    assert (manifest["smoke"], manifest["parity"], manifest["build"]) == ({}, {}, {})
    attention = json.loads((release / "attention.json").read_bytes())
    assert manifest["attention"] == attention
    assert attention["built"]["status"] == "not built"
    assert attention["observed"]["status"] == "not observed"
    told = json.loads((release / "carried.json").read_bytes())
    assert told["options"] == options
    assert told["without_meaning"]["engine.targets"]["because"]


def test_the_readme_says_how_to_serve_it(tmp_path: Path) -> None:
    text = (release_in(write_source(tmp_path)) / "tiny/README.md").read_text()
    assert "    trtllm-serve checkpoint --config serve.yaml\n" in text
    assert "`--extra_llm_api_options`" in text
    assert "a machine with 2 GPUs" in text
    assert "- `engine.attention.require_fused`: " in text
    assert "- `engine.gemm_plugin`" not in text
    assert "not observed: nothing was executed" in text


def test_an_unknown_architecture_and_quantised_weights_pass_unchanged(tmp_path: Path) -> None:
    modelopt = json.dumps({"quantization": {"quant_algo": "FP8"}}).encode()
    config = json.dumps(QUANTISED).encode()
    write_source(tmp_path, config__json=config, hf_quant_config__json=modelopt)
    release = release_in(tmp_path) / "tiny"
    assert (release / "checkpoint/hf_quant_config.json").read_bytes() == modelopt
    assert (release / "checkpoint/config.json").read_bytes() == config
    manifest = json.loads((release / "manifest.json").read_bytes())
    assert manifest["engine"]["quantization"] == "FP8"
    assert "quantised: FP8" in (release / "README.md").read_text()


def test_verify_takes_it_as_folder_and_tar(tmp_path: Path) -> None:
    made = release_in(write_source(tmp_path))
    for path in (made / "tiny", made / "tiny.tar"):
        report = verify_release(path, MACHINE)
        assert report.document()["sound"]
        assert not report.fit.runs
        assert "it needs 2 GPUs; 0 are visible" in report.fit.reasons
        assert "model    cannot run here" in report.text()
    assert verify_release(made / "tiny", H100).fit.reasons == (
        "it is for TensorRT-LLM 1.3 or later; installed is none",
    )


@pytest.mark.parametrize(
    "name", ["serve.yaml", "carried.json", "checkpoint/model-00002-of-00002.safetensors"]
)
def test_verify_names_a_changed_byte(tmp_path: Path, name: str) -> None:
    path = release_in(write_source(tmp_path)) / "tiny" / name
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(VerificationError) as caught:
        verify_release(path.parents[name.count("/")], MACHINE)
    assert [fault.split(":")[0] for fault in caught.value.facts] == [f"`{name}` is changed"]


def test_equal_bytes_twice_and_in_the_tar(tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "another place"):
        made = release_in(write_source(tmp_path / name))
        digests.add(hashlib.sha256((made / "tiny.tar").read_bytes()).hexdigest())
        with tarfile.open(made / "tiny.tar") as tar:
            member = tar.extractfile("tiny/serve.yaml")
            assert member is not None
            assert member.read() == (made / "tiny/serve.yaml").read_bytes()
    assert len(digests) == 1


def test_the_key_follows_what_the_release_says(tmp_path: Path) -> None:
    write_source(tmp_path)
    keys = set()
    for change in ("", "\nsmoke: {max_new_tokens: 3}\n", "\nvariants: {a: {}}\n"):
        plan = plan_in(tmp_path, RECIPE + change)
        keys.add(PYTORCH_STAGES[1].key(plan, {"download": "0" * 64}))
    assert len(keys) == 2


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_of_the_source_is_refused(tmp_path: Path, name: str) -> None:
    known = json.loads(checkpoint_files()[name])
    data = json.dumps({**known, "auto_map": {"AutoConfig": "a.B"}}).encode()
    write_source(tmp_path, **{name.replace(".", "__"): data})
    assert problems_in(tmp_path) == [
        "the source points to Python code of its own, which is never executed"
    ]
    plan, store = plan_in(tmp_path), Store(tmp_path / "store")
    with pytest.raises(PlanRefused):
        run(plan, store, "package", Quiet(), lock_timeout_s=5)
    assert not list((tmp_path / "store").glob("artifacts/*/*"))


def test_a_source_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    write_source(tmp_path, tokenizer__json=None)
    assert problems_in(tmp_path) == ["the source has no tokenizer, which `trtllm-serve` needs"]


def test_fused_attention_cannot_be_required(tmp_path: Path) -> None:
    write_source(tmp_path)
    (problem,) = problems_in(tmp_path, RECIPE.replace("require_fused: false", ""))
    assert "`engine.attention.require_fused` is `true`" in problem


@pytest.mark.parametrize("stage", ["convert", "verify", "build", "smoke"])
def test_there_are_no_other_stages(tmp_path: Path, stage: str) -> None:
    plan = plan_in(write_source(tmp_path))
    with pytest.raises(RecipeError, match="nothing to convert, build or smoke-test"):
        stages_until(plan, stage)


def test_the_command(tmp_path: Path) -> None:
    write_source(tmp_path)
    plan_in(tmp_path)
    options = (str(tmp_path / "recipe.yaml"), "--store", str(tmp_path / "store"))
    planned = json.loads(run_command("plan", *options, "--json").stdout)
    assert planned["serve"]["options"]["tensor_parallel_size"] == 2
    assert [stage["stage"] for stage in planned["stages"]] == ["download", "package"]
    made = run_command("run", *options, "--json", "--out", str(tmp_path / "out"))
    assert made.returncode == 0, made.stderr
    text = run_command("plan", *options)
    assert "ignored    engine.attention.require_fused" in text.stdout
    assert text.stdout.endswith("no problems found\n")
    for command in (["build"], ["convert", "--explain", "a"]):
        refused = run_command(*command[:1], *options, *command[1:])
        assert refused.returncode == 3
        assert "set `package.kind: engine`" in refused.stderr
    inspected = run_command("inspect", str(tmp_path / "out/tiny"))
    assert inspected.returncode == 0
    assert "not built" in inspected.stdout


@pytest.mark.parametrize("targets", ["[sm90]", "[sm80, sm90]"])
def test_rules_of_engines_are_no_concern_and_limits_follow_the_model(
    tmp_path: Path, targets: str
) -> None:
    config = json.loads(checkpoint_files()["config.json"])
    config.pop("max_position_embeddings", None)
    changed = json.dumps({**config, "n_positions": 96}).encode()
    write_source(tmp_path, config__json=changed)
    plan = plan_in(tmp_path, RECIPE.replace("[sm90]", targets))
    assert not plan.problems
    assert plan.recipe.engine.max_seq_len == 96
    assert plan.recipe.engine.max_input_len == 48
