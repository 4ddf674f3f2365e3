"""Model classes of TensorRT-LLM 1.2, one data-only file each: the targets of the families.

What is said here is TensorRT-LLM's side of a checkpoint: the config keys that a class reads and the
parameters of its module tree. Families that become the same class share it.
"""
