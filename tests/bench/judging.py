"""What `plan` asks about TensorRT-LLM, from a config.json alone: rules, memory, other layouts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from pipeline.engines.trtllm.judgement import rule_problems
from pipeline.engines.trtllm.memory import memory_plan, memory_report
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.table import RULES
from tests.engines.trtllm.published_sizes import kimi_k2, llama_70b

ROUNDS = 20
MODELS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Llama 70B", llama_70b()),
    ("1T, 384 experts", kimi_k2()),
)


def measure() -> Iterator[str]:
    """One line per model, medians; the ratio is to the first model's."""
    settings = EngineSettings()
    asked: dict[str, Callable[[dict[str, Any]], object]] = {
        f"{len(RULES)} rules": lambda config: rule_problems(config, settings),
        "memory of one layout": lambda config: memory_plan(config, settings),
        "report over all layouts": lambda config: memory_report(config, settings),
    }
    yield f"judging a config.json for TensorRT-LLM, medians of {ROUNDS}"
    first: dict[str, float] = {}
    for title, config in MODELS:
        told = []
        for name, ask in asked.items():
            seconds = median(_seconds(ask, config) for _ in range(ROUNDS))
            ratio = seconds / first.setdefault(name, seconds)
            told.append(f"{name} {1000 * seconds:.1f} ms ({ratio:.1f} x)")
        yield f"  {title:<19} {', '.join(told)}"


def _seconds(ask: Callable[[dict[str, Any]], object], config: dict[str, Any]) -> float:
    begun = time.perf_counter()
    ask(config)
    return time.perf_counter() - begun
