"""Triton's image lines, and the TensorRT-LLM in each: an engine loads only in its own version."""

from __future__ import annotations

from pipeline.trtllm.facts import END_OF_LINE, FIRST_RELEASE, facts, release_of


def known_image_version(line: str) -> str | None:
    """The TensorRT-LLM in a Triton image line `YY.MM`; None where this project does not know."""
    version: str | None = facts()["triton_images"].get(line)
    return version


def loads_our_engines(version: str) -> bool:
    """Whether a TensorRT-LLM is of the line whose engines this project builds."""
    return FIRST_RELEASE <= release_of(version) < END_OF_LINE
