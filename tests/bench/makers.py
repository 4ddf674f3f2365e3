"""The programs that make a runnable decoder of a Hugging Face checkpoint.

`python -m tests.bench.makers MAKER SOURCE OUT DTYPE OPENED`: DTYPE is that of the written weights;
OPENED is 1 where the decoder is to be opened too, and to read one token. Prints its peak memory in
KiB.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bench.children import own_peak

THREADS = 2
MAX_SEQ_LEN = 2048
GENAI_BUILDER = "onnxruntime_genai.models.builder"
_PRECISIONS = {"float16": "fp16", "float32": "fp32"}


def ours(source: Path, out: Path, dtype: str, opened: bool) -> None:
    """Convert, write the graph beside the rank file, open it."""
    from pipeline.graph.decoder import write_decoder

    checkpoint = converted(source, out, dtype)
    graph = out / "decoder.onnx"
    write_decoder(
        checkpoint,
        graph,
        max_seq_len=MAX_SEQ_LEN,
        compute_dtype="float32",
        fixed_cache=False,
        flat_linear=True,
    )
    if opened:
        from pipeline.engines.onnxruntime.cpu_session import Limits, open_session, session_options

        options = session_options()
        options.intra_op_num_threads = THREADS
        open_session(graph, out, Limits(1, MAX_SEQ_LEN), options).start([[1]])


def genai(source: Path, out: Path, dtype: str, opened: bool) -> None:
    """onnxruntime-genai's builder as its documentation calls it, then its runtime."""
    arguments = ["-i", str(source), "-o", str(out), "-p", _PRECISIONS[dtype], "-e", "cpu"]
    os.environ["TQDM_DISABLE"] = "1"
    sys.argv = ["builder", *arguments, "-c", str(out / "cache")]
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        runpy.run_module(GENAI_BUILDER, run_name="__main__", alter_sys=True)
    if opened:
        open_genai(out, 1, MAX_SEQ_LEN).append_tokens([[1]])


def converted(source: Path, out: Path, dtype: str):  # type: ignore[no-untyped-def]
    """Our conversion to one rank; the opened checkpoint."""
    from pipeline.checkpoint.huggingface import open_source_checkpoint
    from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
    from pipeline.families import find_family
    from pipeline.progress import Silent
    from pipeline.weights.layout import plan_conversion
    from pipeline.weights.parallel import Parallelism
    from pipeline.weights.stream import write_checkpoint

    opened = open_source_checkpoint(source)
    family = find_family(opened.architecture)
    plan = plan_conversion(opened, family, Parallelism(1, 1), dtype)
    write_checkpoint(plan, source, out, Silent())
    return open_trtllm_checkpoint(out)


def open_genai(folder: Path, batch: int, max_length: int):  # type: ignore[no-untyped-def]
    """A greedy generator of onnxruntime-genai over what its builder wrote."""
    import onnxruntime_genai as og

    config = og.Config(str(folder))
    config.overlay(
        f'{{"model": {{"decoder": {{"session_options": {{"intra_op_num_threads": {THREADS}}}}}}}}}'
    )
    model = og.Model(config)
    params = og.GeneratorParams(model)
    params.set_search_options(batch_size=batch, max_length=max_length, do_sample=False)
    return og.Generator(model, params)


MAKERS: dict[str, Callable[[Path, Path, str, bool], None]] = {"ours": ours, "genai": genai}


def main() -> None:
    """See the module."""
    maker, source, out, dtype, opened = sys.argv[1:]
    MAKERS[maker](Path(source), Path(out), dtype, opened == "1")
    sys.stdout.write(f"\n{own_peak()}\n")


if __name__ == "__main__":
    main()
