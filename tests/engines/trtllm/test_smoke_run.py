"""From checkpoint to release with TensorRT-LLM: the real command on the stand-in machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import RECIPES, run_command
from tests.standins import Standin
from tests.standins.llm import install_llm, set_llm

FLAGS = ("--set", "engine.backend=trtllm", "--set", "engine.targets=[sm90]")
COMPARE = (
    *("--set", "engine.gather_context_logits=true"),
    *("--set", "smoke.compare={min_equal_tokens: 48, max_logit_error: 0.01}"),
)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Standin:
    """A machine with two H100 and TensorRT-LLM, and a store on it."""
    found = Standin(tmp_path_factory.mktemp("machine") / "standin")
    install_llm(found)
    return found


def run(machine: Standin, command: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code and output of the command on the demo, in the machine's store."""
    store = ("--store", str(machine.folder / "store"))
    done = run_command(
        *(command, RECIPES / "demo.yaml", *FLAGS, *store, *arguments),
        cwd=machine.folder,
        env=machine.environment(),
    )
    return done.returncode, done.stdout, done.stderr


def test_the_demo_recites_and_its_release_holds_what_was_observed(machine: Standin) -> None:
    set_llm(machine)
    out = machine.folder / "out"
    code, told, log = run(machine, "run", "--out", str(out), *COMPARE)
    assert code == 0, log
    assert "by trtllm 1.2.1 on NVIDIA H100 80GB HBM3, attention observed: fused" in log
    assert "compared with onnxruntime: all tokens equal" in told
    assert "observed   fused: kernel names by torch.profiler" in told
    release = out / "demo"
    proof = json.loads((release / "engine" / "attention.json").read_bytes())
    assert proof["built"]["status"] == proof["observed"]["status"] == "fused"
    assert proof["observed"]["generation"]["kernels"][0].startswith("xqa_kernel_dt_bf16")
    record = json.loads((release / "smoke.json").read_bytes())
    assert record["executed_by"]["backend"] == "trtllm"
    assert record["comparison"]["compared"] is True
    manifest = json.loads((release / "manifest.json").read_bytes())
    assert manifest["attention"] == proof
    verified = run_command("verify", release, env=machine.environment())
    assert verified.returncode == 0, verified.stderr


@pytest.mark.parametrize(
    ("knobs", "flags", "code", "message"),
    [
        (
            {"kernels": {"context": ["void tensorrt_llm::kernels::softmax_kernel<float, 1>(P)"]}},
            (),
            6,
            "the traced pass ran unfused attention",
        ),
        ({"logit_error": 0.5}, COMPARE, 6, "the logits of the prompt differ by 0.5"),
    ],
)
def test_what_is_wrong_with_an_engine_ends_the_smoke_test(
    machine: Standin, knobs: dict[str, object], flags: tuple[str, ...], code: int, message: str
) -> None:
    set_llm(machine, **knobs)
    found, told, log = run(machine, "smoke", "--set", "smoke.seed=1", *flags)
    assert found == code
    assert message in told + log
    assert "Traceback" not in log
    artifacts = machine.folder / "store" / "artifacts" / "smoke"
    records = [json.loads(path.read_bytes()) for path in artifacts.glob("*/smoke.json")]
    assert all(record["sampling"]["seed"] == 0 for record in records)


BLOOM = RECIPES.parent / "tests" / "fixtures" / "bloom"


@pytest.mark.parametrize(
    ("on_machine", "flags", "message"),
    [
        (False, (), "the smoke test needs the decoder graph (in the engine's place: "),
        (True, ("--set", "smoke.compare={}"), "(`smoke.compare` compares with it)"),
        (
            True,
            ("--set", "smoke.compare={max_logit_error: 1}"),
            "the engine gives no prompt logits",
        ),
        (
            True,
            ("--set", "smoke.compare={}", "--set", "engine.backend=onnxruntime"),
            "`smoke.compare.backend` is `onnxruntime`, which is the engine's own",
        ),
    ],
)
def test_a_smoke_test_that_cannot_be_had_is_refused_by_the_plan(
    machine: Standin, tmp_path: Path, on_machine: bool, flags: tuple[str, ...], message: str
) -> None:
    recipe = tmp_path / "bloom.yaml"
    limits = "max_input_len: 16, max_seq_len: 4096, max_batch_size: 2"  # the graph ends at 2048
    recipe.write_text(
        f"name: bloom\nsource: {{path: {BLOOM}}}\nengine: {{backend: trtllm, {limits}}}\n"
    )
    environment = machine.environment() if on_machine else None
    done = run_command("plan", recipe, *flags, "--store", tmp_path, env=environment)
    told = done.stdout + done.stderr
    assert done.returncode in {3, 4}
    assert message in told
    if on_machine:
        assert "in the engine's place" not in told
