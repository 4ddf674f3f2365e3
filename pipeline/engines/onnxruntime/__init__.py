"""The backend `onnxruntime`: the decoder graph, executed by ONNX Runtime."""

from pipeline.engines.onnxruntime.engine import ENGINE

__all__ = ["ENGINE"]
