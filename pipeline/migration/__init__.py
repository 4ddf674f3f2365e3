"""Migration: old command lines of TensorRT-LLM as a recipe, with an answer for every flag."""
