"""The backend `onnxruntime`: the decoder graph, executed by ONNX Runtime."""

import os

# Since 1.32 the library reports to its makers by default, and keeps a database of what it has not
# sent yet in the user's cache folder; the variable is read as it is loaded (its `Privacy.md`).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from pipeline.engines.onnxruntime.engine import ENGINE

__all__ = ["ENGINE"]
