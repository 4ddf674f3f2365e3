"""The session of ONNX Runtime's CUDA provider, its buffers in host memory: what needs no GPU."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines.generation import Sampling, generate
from pipeline.engines.onnxruntime import cuda_session
from pipeline.engines.onnxruntime.cpu_session import open_session as open_cpu_session
from pipeline.engines.onnxruntime.cuda_session import CudaSession
from pipeline.engines.onnxruntime.inference import (
    Limits,
    cache_ports,
    open_inference,
    session_options,
)
from pipeline.errors import MachineError, ResourceError, ToolFailed
from pipeline.graph.decoder import GraphOptions, decoder_model
from tests.tiny_decoder import Shape, random_weights, relative_error, write_checkpoint

SHAPE = replace(Shape(), dtype="float16")
LIMITS = Limits(3, 48)
PROMPTS = [[5, 111, 17], [64, 3, 90, 41, 41, 7, 2, 2, 19], [112]]


@pytest.fixture(scope="module")
def checkpoint_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), SHAPE, random_weights(SHAPE))


@pytest.fixture
def on_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU provider and host memory in the place of the GPU's."""
    monkeypatch.setattr(cuda_session, "PROVIDER", "CPUExecutionProvider")
    monkeypatch.setattr(cuda_session, "MEMORY", "cpu")


def opened(folder: Path, **options: Any) -> CudaSession:
    given = {"form": "lengths", **options}
    graph = GraphOptions(LIMITS.max_seq_len, "float16", **given)
    model, _ = decoder_model(open_trtllm_checkpoint(folder), graph)
    settings = session_options()
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    data = model.SerializeToString()
    inner = open_inference(data, folder, settings, ["CPUExecutionProvider"])
    return CudaSession(inner, LIMITS, "a GPU", replays=False)


def reference(folder: Path, prompts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    model, _ = decoder_model(
        open_trtllm_checkpoint(folder), GraphOptions(48, "float32", fixed_cache=False)
    )
    return open_cpu_session(model.SerializeToString(), folder, LIMITS).start(prompts)


@pytest.mark.parametrize("form", ["lengths", "mask"])
def test_it_computes_in_the_checkpoint_s_dtype(
    checkpoint_dir: Path, on_host: None, form: str
) -> None:
    session = opened(checkpoint_dir, form=form)
    logits = session.start(PROMPTS).copy()
    assert 1e-6 < relative_error(logits, reference(checkpoint_dir, PROMPTS)) < 5e-3
    logits = session.step([1, 2, 3]).copy()
    longer = [[*prompt, row + 1] for row, prompt in enumerate(PROMPTS)]
    assert relative_error(logits, reference(checkpoint_dir, longer)) < 5e-3


def test_batches_of_any_size_share_the_buffers(checkpoint_dir: Path, on_host: None) -> None:
    session = opened(checkpoint_dir)
    places = [cache.data_ptr() for cache in session._caches]
    how = Sampling(max_new_tokens=6)
    together = generate(session, PROMPTS, how)
    assert [generate(session, [prompt], how)[0] for prompt in PROMPTS] == together
    assert generate(session, PROMPTS[1:], how) == together[1:]
    assert sorted(session._steps) == [1, 2, 3]
    assert [cache.data_ptr() for cache in session._caches] == places


def test_the_cache_is_updated_in_place(checkpoint_dir: Path, on_host: None) -> None:
    session = opened(checkpoint_dir)
    session.start([PROMPTS[0]])
    before = [cache.numpy().copy() for cache in session._caches]
    session.step([7])
    for port, cache, old in zip(session._ports, session._caches, before, strict=True):
        shape = (3 * int(np.prod(port.dims[1:-2])), 48, -1)  # the last but one dim is the slots
        changed = (cache.numpy() != old).reshape(shape).any(axis=(0, 2))
        assert np.flatnonzero(changed).tolist() == [3]


def test_a_step_uploads_one_buffer(checkpoint_dir: Path, on_host: None) -> None:
    session = opened(checkpoint_dir)
    session.start(PROMPTS)
    session.step([1, 2, 3])
    bound = session._steps[3]
    places = sorted((place.start, place.stop) for place in bound.places.values())
    assert len(places) == 5
    assert all(start % 256 == 0 for start, _ in places)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))
    ids = bound.values[bound.places["input_ids"]].view(np.int64)
    assert ids.tolist() == [1, 2, 3]
    session.step([9, 8, 7])
    assert session._steps[3] is bound
    assert ids.tolist() == [9, 8, 7]


def test_positions_may_be_moved(checkpoint_dir: Path, on_host: None) -> None:
    """Rotary positions tell only distances: moved by the same they give the same."""
    session = opened(checkpoint_dir)
    plain = session.start(PROMPTS).copy()
    assert relative_error(session.start(PROMPTS, [20] * 3), plain) < 5e-3
    assert bound_positions(session, [4, 0, 2]) == [3 + 4, 9 + 0, 1 + 2]


def bound_positions(session: CudaSession, offsets: list[int]) -> list[int]:
    session.start(PROMPTS, offsets)
    session.step([1, 1, 1])
    bound = session._steps[3]
    return bound.values[bound.places["position_ids"]].view(np.int64).tolist()


def test_a_plain_session_records_nothing(checkpoint_dir: Path, on_host: None) -> None:
    session = opened(checkpoint_dir)
    session._has_graphs = session._replays = True
    key = "gpu_graph_id"
    assert session._options(2).get_run_config_entry(key) == "2"
    assert session._options(None).get_run_config_entry(key) == "-1"
    plain = session.plain()
    assert plain._options(2).get_run_config_entry(key) == "-1"
    assert session._options(2).get_run_config_entry(key) == "2"
    assert plain._caches is session._caches


def test_ports_say_what_caches_are(checkpoint_dir: Path, on_host: None) -> None:
    session = opened(checkpoint_dir)
    ports = cache_ports(session.inner)
    assert [port.past for port in ports][:3] == ["past_key.0", "past_value.0", "past_key.1"]
    assert ports[0].present == "present_key.0"
    assert ports[0].shape(2, 48) == (2, SHAPE.num_kv_heads, 48, SHAPE.head_size)
    assert ports[0].dtype is np.float16


def test_attention_nodes_are_counted_where_they_run(checkpoint_dir: Path, on_host: None) -> None:
    session = opened(checkpoint_dir)
    assert session.num_attention_nodes == SHAPE.num_layers
    cuda_session._check_placement(session.inner)


def test_work_left_to_the_cpu_is_an_error(checkpoint_dir: Path) -> None:
    """Here the CPU provider is not the wanted one, so that all nodes are left to it."""
    with pytest.raises(ToolFailed, match="does not take all operators") as caught:
        cuda_session._check_placement(opened_nowhere(checkpoint_dir))
    assert "3 `Attention` on the CPU" in caught.value.facts
    assert not any("`Shape`" in fact for fact in caught.value.facts)


def opened_nowhere(folder: Path) -> ort.InferenceSession:
    graph = GraphOptions(LIMITS.max_seq_len, "float16", form="lengths")
    model, _ = decoder_model(open_trtllm_checkpoint(folder), graph)
    settings = session_options()
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    data = model.SerializeToString()
    return open_inference(data, folder, settings, ["CPUExecutionProvider"])


def test_arithmetic_of_shapes_may_stay_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def placed(_inner: Any, *, on_gpu: bool) -> dict[str, int]:
        assert on_gpu is False
        return {"Shape": 2, "Range": 1}

    monkeypatch.setattr(cuda_session, "_placed", placed)
    cuda_session._check_placement(SimpleNamespace())


def test_without_a_cuda_provider_it_says_what_to_install(checkpoint_dir: Path) -> None:
    if cuda_session.PROVIDER in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has a CUDA provider")
    with pytest.raises(MachineError, match="has no CUDA provider") as caught:
        cuda_session.open_session(b"", checkpoint_dir, LIMITS, "a GPU")
    assert caught.value.hint is not None
    assert "onnxruntime-gpu" in caught.value.hint


def test_too_little_memory_is_told(
    checkpoint_dir: Path, on_host: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(checkpoint_dir)

    class Failing:
        def run_with_iobinding(self, *_given: Any) -> None:
            raise cuda_session.ERRORS[0]("CUDA failure 2: out of memory ; GPU=0")

    session.inner = Failing()
    with pytest.raises(ResourceError, match="out of memory"):
        session._run(None, None)


def test_long_prompts_are_read_in_pieces(
    checkpoint_dir: Path, on_host: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(checkpoint_dir)
    whole = session.start(PROMPTS).copy()
    monkeypatch.setattr(cuda_session, "PREFILL_TOKENS", 12)  # four tokens of each prompt at a time
    assert relative_error(session.start(PROMPTS), whole) < 5e-3
