"""A TensorRT-LLM checkpoint as a decoder in standard ONNX (opset 24), out of a few named parts.

`config` and `weights` are pure and light: what the decoder is, and where its bytes lie. `decoder`
assembles the parts; it and the parts import onnx or numpy, so import them where they are used.
"""
