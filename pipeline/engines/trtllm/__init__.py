"""The backend `trtllm`: engines built and run by TensorRT-LLM 1.2, driven from outside."""

from pipeline.engines.trtllm.engine import ENGINE

__all__ = ["ENGINE"]
