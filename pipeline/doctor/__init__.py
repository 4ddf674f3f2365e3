"""What this machine can build and run, and whether its TensorRT-LLM is the one we know."""
