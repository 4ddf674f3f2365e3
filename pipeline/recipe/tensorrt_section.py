"""The section `engine.tensorrt` of a recipe: what only the backend `tensorrt` reads."""

from __future__ import annotations

from pydantic import Field

from pipeline.recipe.section import Section


class TensorRTOptions(Section):
    """What a TensorRT engine holds, and which TensorRT can open it."""

    strip_weights: bool = Field(
        False,
        description="Leave the weights out of the engine: they are put back from the checkpoint "
        "when it is opened",
    )
    version_compatible: bool = Field(
        False,
        description="Let later versions of `tensorrt` open the engine; TensorRT for RTX cannot",
    )
