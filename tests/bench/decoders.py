"""The programs that decode, each a process of its own that does what it is told, line by line.

`python -m tests.bench.decoders DECODER SOURCE WORK MAX_LENGTH`. It says `ready`; then for each line
of its input, JSON, it answers by one:
`{"prompts": [[...], ...]}` reads prompts of equal length, `{"steps": n}` decodes greedily;
`{"seconds": [...], "tokens": [[...], ...]}` are the seconds and the tokens of each step.
Reading answers with the seconds of the prompts and no tokens. A line `{}` ends it; it answers with
its peak memory, `{"peak_kib": n}`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.bench.children import own_peak
from tests.bench.makers import THREADS, converted, genai, open_genai

DTYPE = "float32"


class Decoder(Protocol):
    """Greedy decoding of one batch."""

    def start(self, prompts: Sequence[Sequence[int]]) -> None:
        """Read the prompts."""

    def step(self) -> list[int]:
        """The next token of each sequence; what follows is computed as well."""


class Ours:
    """The decoder graph in our own session."""

    def __init__(self, source: Path, work: Path, max_length: int) -> None:
        from pipeline.engines.onnxruntime.cpu_session import Limits, open_session, session_options
        from pipeline.graph.decoder import write_decoder

        checkpoint = converted(source, work, DTYPE)
        graph = work / "decoder.onnx"
        write_decoder(
            checkpoint,
            graph,
            max_seq_len=max_length,
            compute_dtype=DTYPE,
            fixed_cache=False,
            flat_linear=True,
        )
        options = session_options()
        options.intra_op_num_threads = THREADS
        self._session = open_session(graph, work, Limits(8, max_length), options)
        self._logits: Any = None

    def start(self, prompts: Sequence[Sequence[int]]) -> None:
        """See `Decoder`."""
        self._logits = self._session.start(prompts)

    def step(self) -> list[int]:
        """See `Decoder`."""
        tokens: list[int] = self._logits.argmax(-1).tolist()
        self._logits = self._session.step(tokens)
        return tokens


class Transformers:
    """transformers with eager attention: its model called step by step, without `generate`."""

    def __init__(self, source: Path, work: Path, max_length: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.set_num_threads(THREADS)
        torch.set_grad_enabled(False)
        self._model = AutoModelForCausalLM.from_pretrained(
            source, attn_implementation="eager", dtype=getattr(torch, DTYPE)
        ).eval()
        self._out: Any = None

    def start(self, prompts: Sequence[Sequence[int]]) -> None:
        """See `Decoder`."""
        import torch
        from transformers import DynamicCache

        cache = DynamicCache(config=self._model.config)
        self._out = self._model(torch.tensor(prompts), past_key_values=cache, logits_to_keep=1)

    def step(self) -> list[int]:
        """See `Decoder`."""
        tokens = self._out.logits[:, -1].argmax(-1, keepdim=True)
        self._out = self._model(tokens, past_key_values=self._out.past_key_values)
        told: list[int] = tokens.flatten().tolist()
        return told


class Genai:
    """onnxruntime-genai, from what its own builder writes."""

    def __init__(self, source: Path, work: Path, max_length: int) -> None:
        genai(source, work, DTYPE, opened=False)
        self._open = lambda batch: open_genai(work, batch, max_length)
        self._generator: Any = None

    def start(self, prompts: Sequence[Sequence[int]]) -> None:
        """See `Decoder`."""
        self._generator = None  # the last one's memory goes first
        self._generator = self._open(len(prompts))
        self._generator.append_tokens([list(prompt) for prompt in prompts])

    def step(self) -> list[int]:
        """See `Decoder`."""
        self._generator.generate_next_token()
        tokens: list[int] = self._generator.get_next_tokens().tolist()
        return tokens


DECODERS: dict[str, Callable[[Path, Path, int], Decoder]] = {
    "ours": Ours,
    "transformers": Transformers,
    "genai": Genai,
}


def answers(decoder: Decoder, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The answer to each line."""
    for line in lines:
        asked = json.loads(line)
        seconds: list[float] = []
        tokens: list[list[int]] = []
        if not asked:
            yield {"peak_kib": own_peak()}
            return
        if "prompts" in asked:
            began = time.perf_counter()
            decoder.start(asked["prompts"])
            seconds.append(time.perf_counter() - began)
        for _ in range(asked.get("steps", 0)):
            began = time.perf_counter()
            tokens.append(decoder.step())
            seconds.append(time.perf_counter() - began)
        yield {"seconds": seconds, "tokens": tokens}


def main() -> None:
    """See the module. Whatever a tool writes to stdout goes to stderr."""
    name, source, work, max_length = sys.argv[1:]
    speaker = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    decoder = DECODERS[name](Path(source), Path(work), int(max_length))
    speaker.write("ready\n")
    speaker.flush()
    for answer in answers(decoder, iter(sys.stdin)):
        speaker.write(json.dumps(answer) + "\n")
        speaker.flush()


if __name__ == "__main__":
    main()
