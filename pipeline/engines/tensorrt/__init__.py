"""The backend `tensorrt`: the decoder graph, compiled by TensorRT."""

from pipeline.engines.tensorrt.engine import ENGINE

__all__ = ["ENGINE"]
