"""Conversions of tiny checkpoints: equal to an independent converter, to the bit, in any layout."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.errors import MachineError, RecipeError, ResourceError, VerificationError
from pipeline.progress import Silent
from pipeline.weights import files, stream
from tests import tiny
from tests.weights.converting import assert_as_oracle, convert, plan, read_ranks

LAYOUTS = [(1, 1), (2, 1), (6, 1), (1, 2), (1, 3), (2, 2), (6, 3)]
BIASED = {**tiny.CONFIG, "attention_bias": True, "mlp_bias": True}
TIED = {**tiny.CONFIG, "tie_word_embeddings": True}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_checkpoint(tmp_path_factory.mktemp("source") / "c")


class Counting(Silent):
    """Progress that adds up, and fails on use by two threads at once."""

    def __init__(self) -> None:
        self.total = self.done = 0
        self.lock = threading.Lock()

    def start(self, task: str, total: int, unit: str = "bytes") -> None:
        self.total = total

    def advance(self, amount: int) -> None:
        assert self.lock.acquire(blocking=False)
        self.done += amount
        self.lock.release()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize(("tp_size", "pp_size"), LAYOUTS)
def test_every_layout_and_dtype(
    tp_size: int, pp_size: int, dtype: str, source: Path, tmp_path: Path
) -> None:
    out = convert(plan(source, tp_size, pp_size, dtype), source, tmp_path / "out")
    assert_as_oracle(out, tiny.tensors(), tiny.CONFIG, tp_size, pp_size, dtype)
    assert open_trtllm_checkpoint(out).parallelism == (tp_size, pp_size)


@pytest.mark.parametrize("target", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("config", [BIASED, TIED], ids=["biased", "tied"])
def test_biases_and_tied_heads_in_all_dtypes(
    config: dict[str, Any], dtype: str, target: str, tmp_path: Path
) -> None:
    folder = tiny.write_checkpoint(tmp_path / "source", config, dtype=dtype, num_files=3)
    for tp_size, pp_size in [(2, 2), (6, 1)]:
        out = tmp_path / f"out{tp_size}"
        convert(plan(folder, tp_size, pp_size, target), folder, out)
        assert_as_oracle(out, tiny.tensors(config, dtype), config, tp_size, pp_size, target)


def test_heads_are_repeated_whole(source: Path, tmp_path: Path) -> None:
    """tp 6 over two K/V heads: ranks 0 to 2 have the first, 3 to 5 the second."""
    ranks = read_ranks(convert(plan(source, 6), source, tmp_path / "out"))
    keys = tiny.tensors()["model.layers.1.self_attn.k_proj.weight"]
    for number, rank in enumerate(ranks):
        head = number // 3
        found = rank["transformer.layers.1.attention.qkv.weight"][16:32]
        assert found.tobytes() == keys[head * 16 : head * 16 + 16].tobytes()


def test_the_head_is_padded_with_zeros_and_the_embedding_is_whole(
    source: Path, tmp_path: Path
) -> None:
    ranks = read_ranks(convert(plan(source, 2), source, tmp_path / "out"))
    assert ranks[1]["lm_head.weight"].shape == (57, 48)
    assert not ranks[1]["lm_head.weight"][56].any()
    assert ranks[1]["lm_head.weight"][55].all()
    assert ranks[1]["transformer.vocab_embedding.weight"].shape == (113, 48)


def test_more_ranks_than_padding_can_fill(tmp_path: Path) -> None:
    """A vocabulary of 3 over 6 ranks: the last ranks have padding alone."""
    config = {**tiny.CONFIG, "vocab_size": 3}
    folder = tiny.write_checkpoint(tmp_path / "source", config)
    out = convert(plan(folder, 6), folder, tmp_path / "out")
    assert_as_oracle(out, tiny.tensors(config), config, 6, 1, "bfloat16")


def test_a_head_that_repeats_the_embedding_is_dropped(tmp_path: Path) -> None:
    arrays = tiny.tensors(TIED)
    arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"]
    folder = tiny.write_checkpoint(tmp_path / "source", TIED, arrays)
    out = convert(plan(folder), folder, tmp_path / "out")
    assert_as_oracle(out, arrays, TIED, 1, 1, "bfloat16")


def test_a_tied_head_that_differs_is_refused(tmp_path: Path) -> None:
    """transformers 4 would use the embedding, transformers 5 the head: neither is safe."""
    arrays = tiny.tensors(TIED)
    arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"].copy()
    arrays["lm_head.weight"][112, 47] *= 2
    folder = tiny.write_checkpoint(tmp_path / "source", TIED, arrays)
    with pytest.raises(VerificationError, match=r"`lm_head\.weight` differs"):
        convert(plan(folder), folder, tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()


shapes = st.fixed_dictionaries(
    {
        "vocab_size": st.integers(1, 40),
        "hidden_size": st.integers(1, 9),
        "num_hidden_layers": st.integers(1, 4),
        "head_dim": st.sampled_from([2, 4, 6]),
        "num_key_value_heads": st.integers(1, 3),
        "attention_bias": st.booleans(),
        "mlp_bias": st.booleans(),
        "tie_word_embeddings": st.booleans(),
    }
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shape=shapes,
    groups=st.integers(1, 3),
    mlp_pieces=st.integers(1, 4),
    tp_size=st.integers(1, 6),
    pp_size=st.integers(1, 4),
    dtypes=st.tuples(*[st.sampled_from(["bfloat16", "float16", "float32"])] * 2),
    num_files=st.integers(1, 3),
    block_bytes=st.sampled_from([1, 7, 64, 1000, 1 << 20]),
    threads=st.integers(1, 3),
)
def test_any_model_any_layout_any_block_size(
    shape: dict[str, Any],
    groups: int,
    mlp_pieces: int,
    tp_size: int,
    pp_size: int,
    dtypes: tuple[str, str],
    num_files: int,
    block_bytes: int,
    threads: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    config = {
        **tiny.CONFIG,
        **shape,
        "num_attention_heads": shape["num_key_value_heads"] * groups,
        "intermediate_size": mlp_pieces * tp_size,
    }
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    fits = heads % tp_size == 0 and (kv_heads % tp_size == 0 or tp_size % kv_heads == 0)
    folder = tmp_path_factory.mktemp("any")
    arrays = tiny.tensors(config, dtypes[0])
    source = tiny.write_checkpoint(folder / "source", config, arrays, num_files=num_files)
    if not fits or pp_size > config["num_hidden_layers"]:
        with pytest.raises(RecipeError, match=r"tp_size|pp_size"):
            plan(source, tp_size, pp_size, dtypes[1])
        return
    made = plan(source, tp_size, pp_size, dtypes[1])
    out = folder / "out"
    convert(made, source, out, max_block_bytes=block_bytes, num_threads=threads)
    assert_as_oracle(out, arrays, config, tp_size, pp_size, dtypes[1])
    shutil.rmtree(folder)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_files_are_equal_to_the_byte_for_any_blocks_and_threads(
    dtype: str, source: Path, tmp_path: Path
) -> None:
    made = plan(source, 2, 2, dtype)
    contents = set()
    for number, (block_bytes, threads) in enumerate([(1, 1), (500, 3), (1 << 20, 2)]):
        out = tmp_path / f"out{number}"
        convert(made, source, out, max_block_bytes=block_bytes, num_threads=threads)
        contents.add(tuple(path.read_bytes() for path in sorted(out.iterdir())))
    assert len(contents) == 1


def test_progress_counts_every_byte_once(source: Path, tmp_path: Path) -> None:
    for number, dtype in enumerate(["bfloat16", "float32"]):
        progress = Counting()
        made = plan(source, 2, 1, dtype)
        (tmp_path / f"out{number}").mkdir()
        stream.write_checkpoint(made, source, tmp_path / f"out{number}", progress)
        assert progress.done == progress.total == made.target_bytes


def test_short_reads_and_writes_are_continued(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.preadv, os.pwrite
    monkeypatch.setattr(os, "preadv", lambda fd, parts, at: read(fd, [parts[0][:13]], at))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: write(fd, data[:11], at))
    for number, dtype in enumerate(["bfloat16", "float32"]):
        out = convert(plan(source, 2, 1, dtype), source, tmp_path / f"out{number}")
        assert_as_oracle(out, tiny.tensors(), tiny.CONFIG, 2, 1, dtype)


@pytest.mark.parametrize("target", ["float16", "bfloat16"])
def test_an_overflowing_cast_names_tensors_and_largest_values(target: str, tmp_path: Path) -> None:
    arrays = tiny.tensors(dtype="float32")
    large = 1e5 if target == "float16" else 3.4e38
    arrays["model.layers.1.mlp.up_proj.weight"][3, 4] = -large
    arrays["lm_head.weight"][112, 47] = large
    arrays["lm_head.weight"][0, 0] = large / 1.001 if target == "float16" else 1.0
    source = tiny.write_checkpoint(tmp_path / "source", arrays=arrays)
    messages = set()
    for tp_size, block_bytes in [(1, 1 << 20), (2, 1), (6, 500)]:
        with pytest.raises(RecipeError, match="2 tensors cannot be cast") as caught:
            out = tmp_path / f"out{tp_size}"
            convert(plan(source, tp_size, 1, target), source, out, max_block_bytes=block_bytes)
        messages.add(caught.value.facts)
    (facts,) = messages  # the same in any layout
    assert facts[0].startswith(f"`lm_head.weight` has values up to {large:.6g}; {target} ends at")
    assert facts[1].startswith(f"`model.layers.1.mlp.up_proj.weight` has values up to {large:.6g}")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_source_that_is_not_finite_is_refused_where_it_is_cast(
    bad: float, tmp_path: Path
) -> None:
    for number, dtype in enumerate(["bfloat16", "float16", "float32"]):
        arrays = tiny.tensors(dtype=dtype)
        arrays["model.norm.weight"][7] = bad
        source = tiny.write_checkpoint(tmp_path / f"source{number}", arrays=arrays)
        for target in {"bfloat16", "float16", "float32"} - {dtype}:
            with pytest.raises(VerificationError, match="NaN or infinity") as caught:
                convert(plan(source, dtype=target), source, tmp_path / f"out{number}{target}")
            assert caught.value.facts == ("`model.norm.weight` holds values that are not finite",)
        convert(plan(source, dtype=dtype), source, tmp_path / f"same{number}")


def test_a_truncated_source_is_refused(source: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(source, tmp_path / "source")
    made = plan(folder)
    weights = folder / "model-00002-of-00002.safetensors"
    os.truncate(weights, weights.stat().st_size - 1)
    with pytest.raises(VerificationError, match=r"`model-00002-of-00002\.safetensors`"):
        convert(made, folder, tmp_path / "out")


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_source_that_shrinks_while_it_is_read(
    dtype: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(source, tmp_path / "source")
    made = plan(folder, dtype=dtype)
    monkeypatch.setattr(stream, "check_source", lambda *_: None)
    os.truncate(folder / "model-00001-of-00002.safetensors", 3000)
    with pytest.raises(VerificationError, match="ends at byte 3000"):
        convert(made, folder, tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_source_that_changed_since_the_plan(source: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(source, tmp_path / "source")
    made = plan(folder)
    tiny.write_checkpoint(folder, {**tiny.CONFIG, "intermediate_size": 74})
    with pytest.raises(VerificationError, match="not the one that the conversion was planned for"):
        convert(made, folder, tmp_path / "out")


def full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_a_full_disk_is_told_as_such(
    call: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, call, full_disk)
    with pytest.raises(ResourceError, match=r"no space left to write `rank\d\.safetensors`"):
        convert(plan(source, 2), source, tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_file_system_without_preallocation(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    out = convert(plan(source, 2), source, tmp_path / "out")
    assert_as_oracle(out, tiny.tensors(), tiny.CONFIG, 2, 1, "bfloat16")


def test_a_folder_that_cannot_be_written(source: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"`rank0\.safetensors` cannot be read or written"):
        stream.write_checkpoint(plan(source), source, tmp_path / "nowhere", Silent())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "rank0.safetensors").write_text("someone else's")
    with pytest.raises(MachineError, match=r"`rank0\.safetensors` cannot be read or written"):
        stream.write_checkpoint(plan(source), source, tmp_path / "out", Silent())


class Interrupting(Silent):
    """Raises as a signal handler would, in the thread that counts."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, amount: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 2, 20])
def test_an_interrupt_ends_all_threads(after: int, source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        stream.write_checkpoint(plan(source, 2), source, tmp_path / "out", Interrupting(after))
    assert not (tmp_path / "out" / "config.json").exists()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("convert")]


def test_file_descriptors_are_closed(source: Path, tmp_path: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    convert(plan(source, 2), source, tmp_path / "out")
    with pytest.raises(VerificationError), files.open_all(tmp_path, ["missing"], os.O_RDONLY):
        pass
    assert set(Path("/proc/self/fd").iterdir()) == before
