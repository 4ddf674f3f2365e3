"""Memory and disk of an engine: what each rank needs, on which GPUs it fits, what would help."""

from pipeline.engines.trtllm.memory.layouts import smallest_layout
from pipeline.engines.trtllm.memory.plan import MemoryPlan, fits, memory_plan
from pipeline.engines.trtllm.memory.problems import memory_problems
from pipeline.engines.trtllm.memory.report import estimate, memory_report

__all__ = [
    "MemoryPlan",
    "estimate",
    "fits",
    "memory_plan",
    "memory_problems",
    "memory_report",
    "smallest_layout",
]
