"""Greedy decoding on the CPU against transformers eager: same model, threads and dtype."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.checkpoint.huggingface import open_source_checkpoint
from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines.cpu_session import CpuSession, Limits, open_session, session_options
from pipeline.families import find_family
from pipeline.graph.decoder import GraphOptions, decoder_model
from pipeline.progress import Silent
from pipeline.weights.layout import plan_conversion
from pipeline.weights.parallel import Parallelism
from pipeline.weights.stream import write_checkpoint

THREADS, PROMPT, ROUNDS, STEPS = 2, 64, 6, 8
CONFIG = {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "max_position_embeddings": 2048,
}


def open_both(folder: Path) -> tuple[Any, CpuSession]:
    """A random float32 Llama in transformers, and ours converted from it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    config = AutoConfig.for_model("llama", **CONFIG)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "source")
    model = AutoModelForCausalLM.from_pretrained(
        folder / "source", attn_implementation="eager", dtype=torch.float32
    ).eval()
    source = open_source_checkpoint(folder / "source")
    family = find_family(source.architecture)
    out = folder / "converted"
    out.mkdir()
    plan = plan_conversion(source, family, Parallelism(1, 1), "float32")
    write_checkpoint(plan, folder / "source", out, Silent())
    graph, _ = decoder_model(
        open_trtllm_checkpoint(out), GraphOptions(2048, "float32", fixed_cache=False)
    )
    options = session_options()
    options.intra_op_num_threads = THREADS
    return model, open_session(graph.SerializeToString(), out, Limits(8, 2048), options)


def measure(folder: Path) -> Iterator[str]:
    """One line per batch size: ratio of the median step times."""
    import torch
    from transformers import DynamicCache

    model, session = open_both(folder)
    generator = torch.Generator().manual_seed(0)
    count = sum(weight.numel() for weight in model.parameters())
    yield f"greedy decoding, {count / 1e6:.0f} M parameters, float32, {THREADS} threads"
    for batch in (1, 8):
        prompts = torch.randint(0, CONFIG["vocab_size"], (batch, PROMPT), generator=generator)
        with torch.no_grad():
            out = model(prompts, past_key_values=DynamicCache(config=model.config), use_cache=True)
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            ids = session.start(prompts.tolist()).argmax(-1).tolist()
            assert token.flatten().tolist() == ids
            theirs, ours = [], []
            for _ in range(ROUNDS):
                for _ in range(STEPS):
                    began = time.perf_counter()
                    out = model(token, past_key_values=out.past_key_values, use_cache=True)
                    token = out.logits[:, -1].argmax(-1, keepdim=True)
                    theirs.append(time.perf_counter() - began)
                for _ in range(STEPS):
                    began = time.perf_counter()
                    ids = session.step(ids).argmax(-1).tolist()
                    ours.append(time.perf_counter() - began)
        mine, other = statistics.median(ours) * 1e3, statistics.median(theirs) * 1e3
        yield (
            f"  batch {batch}: {mine:.1f} ms a step, transformers eager {other:.1f} ms: "
            f"{other / mine:.1f} times as fast"
        )
