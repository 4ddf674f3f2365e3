"""A stand-in for TensorRT-LLM 1.2's package: the `LLM` of its engine workflow, with no GPU.

Generated from the JSON of facts (`checks`), and stricter than the real package. `install_llm` puts
it into a stand-in machine's `site/`; knobs are in that machine's `llm.json` (see `control`). The
real package brings torch, so this one brings a stand-in for what is used of it.
"""
