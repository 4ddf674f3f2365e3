"""ONNX files of any origin: what is in them, and where their weights lie; no weight is read."""
