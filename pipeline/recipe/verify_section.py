"""The section `verify` of a recipe: what a converted checkpoint is held to beside its bytes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, WrapValidator

from pipeline.recipe import rules
from pipeline.recipe.section import Count, PositiveInt, Section

Text = Annotated[str, StringConstraints(min_length=1)]


class Verify(Section):
    """Beside the round trip, which always is: the logits of both checkpoints, executed.

    The thresholds hold at every position; one that is left out follows from what conversion did to
    the weights (see `pipeline.parity.thresholds`).
    """

    logits: bool = Field(
        False,
        description="Execute the converted checkpoint in float32 on the CPU and compare its logits "
        "with those of transformers on the source; needs the extra `verify`",
    )
    layers: Annotated[Literal["all"] | PositiveInt, WrapValidator(rules.check_layers)] = Field(
        "all",
        description="`all`, or how many of the first layers are executed, for models that do not "
        "fit into memory; final norm and head come after them",
    )
    prompts: PositiveInt = Field(
        4, description="Number of prompts of random tokens, of unequal lengths"
    )
    tokens: Annotated[int, Field(ge=2)] = Field(
        32, description="Length of the longest of them, in tokens"
    )
    seed: Count = Field(0, description="Seed of the random tokens")
    texts: Annotated[tuple[Text, ...], AfterValidator(rules.check_distinct)] | None = Field(
        None,
        strict=False,
        description="Texts to compare beside them. Default: one sentence, where the source has a "
        "tokenizer",
    )
    min_cosine: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="Least cosine of both logits at a position. Default: 0.999999, or 0.9999 and "
        "0.995 where weights were rounded to float16 and bfloat16",
    )
    max_norm_error: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Most that the ratio of their norms is away from 1. Default: 1e-4, or 5e-3 and "
        "0.05 where weights were rounded to float16 and bfloat16",
    )
    max_relative_error: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Largest difference of two logits, by the largest logit of the position. "
        "Default: 1e-4, or 0.02 and 0.15 where weights were rounded to float16 and bfloat16",
    )
