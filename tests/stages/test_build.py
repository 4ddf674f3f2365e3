"""Stage `build`: its key, its artifact, and the proof that it demands."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.artifact import Artifact, describe, list_files
from pipeline.engines import find_engine
from pipeline.engines.attention_proof import not_observed, proof, write_proof
from pipeline.errors import VerificationError
from pipeline.hardware import Gpu, Hardware
from pipeline.plan import Plan
from pipeline.progress import Silent
from pipeline.recipe.schema import EngineSettings, Recipe, Source
from pipeline.stages.build import STAGE
from pipeline.store import Store
from tests.engines.tensorrt_backend.tensorrt_parts import checkpoint, limits

H100 = Gpu("NVIDIA H100", "sm90", 80 << 30, "580")
H200 = Gpu("NVIDIA H200", "sm90", 141 << 30, "580")


def plan(
    settings: EngineSettings,
    engine: Any = None,
    tools: dict[str, str] | None = None,
    gpus: tuple[Gpu, ...] = (),
) -> Plan:
    """What the stage reads of a plan."""
    engine = engine or find_engine(settings.backend)
    return cast(
        Plan,
        SimpleNamespace(
            recipe=Recipe(name="tiny", source=Source(path="."), engine=settings),
            engine=engine,
            build_tools=engine.tool_versions() if tools is None else tools,
            hardware=Hardware(2, 1 << 34, gpus),
            cache_dir=None,
        ),
    )


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("converted")
    checkpoint(folder)
    return Artifact(folder, describe(folder, "convert", "c" * 64, {}, {}))


def test_the_artifact_is_an_engine_folder(converted: Artifact, tmp_path: Path) -> None:
    facts = STAGE.run(plan(limits()), {"convert": converted}, tmp_path, Silent())
    assert list_files(tmp_path) == [
        *("attention.json", "decoder.engine", "decoder.onnx", "engine.json")
    ]
    assert json.loads(json.dumps(facts)) == facts
    assert str(tmp_path) not in json.dumps(facts)
    assert (
        STAGE.summary(facts) == "tensorrt for sm80, sm89: 3 attention layers fused, "
        f"{facts['engine_bytes']:,} bytes"
    )


def test_two_artifacts_of_one_key_have_equal_files(converted: Artifact, tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        store = Store(tmp_path / name)
        with store.session() as session, session.working_folder("build", "k") as folder:
            facts = STAGE.run(plan(limits("sm80")), {"convert": converted}, folder, Silent())
            artifact = session.publish(folder, describe(folder, "build", "k", {}, facts))
        digests.append((artifact.manifest.files, artifact.manifest.facts))
    assert digests[0] == digests[1]


def test_a_byte_that_changed_in_the_store_is_seen_before_the_build(tmp_path: Path) -> None:
    folder = tmp_path / "converted"
    folder.mkdir()
    checkpoint(folder)
    artifact = Artifact(folder, describe(folder, "convert", "c" * 64, {}, {}))
    ranks = folder / "rank0.safetensors"
    data = bytearray(ranks.read_bytes())
    data[-100] ^= 1
    ranks.write_bytes(data)
    with pytest.raises(VerificationError, match="damaged") as caught:
        STAGE.run(plan(limits()), {"convert": artifact}, tmp_path / "engine", Silent())
    assert caught.value.facts[0].startswith("`rank0.safetensors` is changed")


class Claiming:
    """An engine whose build proves what it is told to."""

    def __init__(self, status: str, layers: int) -> None:
        self.built = {
            "status": status,
            "attention_sites": 3,
            "attention_layers": layers,
            "evidence": "its word",
        }

    def tool_versions(self) -> dict[str, str]:
        return {}

    def build(
        self, source: Any, settings: EngineSettings, out_dir: Path, progress: Any, *, cache_dir: Any
    ) -> dict[str, Any]:
        write_proof(out_dir, proof(settings.attention, self.built, not_observed("")))
        return {"backend": "claiming"}


@pytest.mark.parametrize(("status", "layers"), [("unfused", 3), ("unknown", 3), ("fused", 2)])
def test_an_engine_without_the_proof_is_refused(
    converted: Artifact, tmp_path: Path, status: str, layers: int
) -> None:
    claimed = plan(limits(), Claiming(status, layers))
    with pytest.raises(VerificationError, match="require_fused"):
        STAGE.run(claimed, {"convert": converted}, tmp_path, Silent())
    free = plan(limits(fused=False), Claiming(status, layers))
    assert STAGE.run(free, {"convert": converted}, tmp_path, Silent())


def test_a_build_that_leaves_no_proof_is_refused(converted: Artifact, tmp_path: Path) -> None:
    engine = Claiming("fused", 3)
    engine.build = lambda *_, **__: {}  # type: ignore[method-assign]
    with pytest.raises(VerificationError, match="attention proof"):
        STAGE.run(plan(limits(), engine), {"convert": converted}, tmp_path, Silent())


def test_the_key_follows_settings_and_tools_and_nothing_else() -> None:
    def key(settings: EngineSettings, **changes: Any) -> str:
        found = STAGE.key(plan(settings, **changes), {"convert": "c"})
        assert found is not None
        return found

    same = {key(limits(), gpus=gpus) for gpus in ((), (H100,), (H200, H100))}
    assert len(same) == 1
    rtx = find_engine("tensorrt").tool_versions()
    newer = rtx | {"tensorrt-rtx-cu13-libs": "1.8.0.1"}
    others = [
        key(limits("sm80")),
        key(limits(max_seq_len=40)),
        key(limits(fused=False)),
        key(limits(), tools=newer),
    ]
    assert len({*same, *others}) == 1 + len(others)


def test_a_builder_that_tunes_on_the_gpu_has_it_in_its_key() -> None:
    tools = {"tensorrt-cu13": "10.15.1.29", "onnx": "1.19.0"}
    keys = [
        STAGE.key(plan(limits("sm90"), tools=tools, gpus=gpus), {"convert": "c"})
        for gpus in ((H100,), (H200,), (H100, H100))
    ]
    assert keys[0] == keys[2] != keys[1]


TRTLLM = {"tensorrt-llm": "1.2.1", "tensorrt": "10.14.1.48"}


def trtllm_key(gpus: tuple[Gpu, ...] = (H100,), tools: Any = TRTLLM, **keys: Any) -> str:
    """The key of a build by TensorRT-LLM for sm90."""
    chosen = EngineSettings(**keys)
    found = STAGE.key(plan(chosen, tools=tools, gpus=gpus), {"convert": "c"})
    assert found is not None
    return found


def test_the_key_of_a_build_by_tensorrt_llm_has_its_gpu_and_driver() -> None:
    l4 = Gpu("NVIDIA L4", "sm89", 24 << 30, "575")
    same = {trtllm_key(), trtllm_key((H100, H100)), trtllm_key((l4, H100))}
    assert len(same) == 1
    newer = Gpu(H100.name, "sm90", 80 << 30, "590")
    others = [
        trtllm_key((H200,)),
        trtllm_key((newer,)),
        trtllm_key(()),
        trtllm_key(tools=TRTLLM | {"tensorrt-llm": "1.2.2"}),
        trtllm_key(gemm_plugin="auto"),
        trtllm_key(max_batch_size=9),
    ]
    assert len({*same, *others}) == 1 + len(others)


def test_what_decides_no_engine_is_not_in_its_key() -> None:
    changes: list[dict[str, Any]] = [{"workers": 2}, {"build_timeout_s": 7}]
    changes += [{"use_timing_cache": False}, {"kv_cache_tokens": 65536}]
    assert {trtllm_key(**change) for change in changes} == {trtllm_key()}


def test_the_summary_of_several_ranks() -> None:
    facts = {
        "backend": "trtllm",
        "targets": ["sm90"],
        "world_size": 2,
        "attention": "fused",
        "attention_sites": 32,
        "engine_bytes": 1234567,
    }
    assert (
        STAGE.summary(facts)
        == "trtllm for sm90: 32 attention layers fused, 1,234,567 bytes in 2 ranks"
    )
