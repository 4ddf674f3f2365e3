"""What importing `tensorrt_llm` does: a banner, and torch."""

from __future__ import annotations

import sys
from importlib.metadata import version

from tests.standins.tensorrt_llm import _torch
from tests.standins.tensorrt_llm.control import control

__version__ = version("tensorrt-llm")
sys.stdout.write(f"[TensorRT-LLM] TensorRT LLM version: {__version__}\n")

sys.modules.setdefault("torch", _torch.torch)
sys.modules.setdefault("torch.profiler", _torch.profiler)

if control().get("missing"):
    raise ImportError("libmpi.so.40: cannot open shared object file: No such file or directory")
