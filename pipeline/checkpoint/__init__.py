"""Checkpoint formats: safetensors headers, Hugging Face sources, TensorRT-LLM targets."""
