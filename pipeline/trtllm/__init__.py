"""What TensorRT-LLM 1.2 is, as data: options, flags, rules between them, kernels, log lines, GPUs.

Nothing here knows recipes or files. `facts.json` states what was read in which source state; the
modules beside it give it types.
"""
