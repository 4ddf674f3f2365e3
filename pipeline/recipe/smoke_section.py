"""The section `smoke` of a recipe: prompts, what is expected of them, and a comparison."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from pipeline.recipe import rules
from pipeline.recipe.section import PositiveInt, Section

TokenId = Annotated[int, Field(ge=0)]
Text = Annotated[str, StringConstraints(min_length=1)]


class Expect(Section):
    """What a generation must be. All that is given must hold."""

    text: str | None = Field(None, description="The generated text, exactly")
    contains: Text | None = Field(None, description="A part of the generated text")
    regex: Annotated[str, AfterValidator(rules.check_regex)] | None = Field(
        None, description="A pattern that is found in the generated text"
    )
    token_ids: tuple[TokenId, ...] | None = Field(
        None, strict=False, description="The generated token ids, exactly"
    )
    min_tokens: PositiveInt | None = Field(None, description="Least number of generated tokens")
    stop_reason: Literal["end", "stop", "length"] | None = Field(
        None, description="`end`: end-of-sequence token; `stop`: stop text; `length`: limit reached"
    )


class Prompt(Section):
    """One prompt of the smoke test."""

    text: Text = Field(description="The prompt, as the model is to continue it")
    stop: tuple[Text, ...] = Field((), strict=False, description="Texts that end the generation")
    max_new_tokens: PositiveInt | None = Field(None, description="Overrides the smoke test's")
    expect: Expect = Field(Expect(), description="What the generation must be")

    @model_validator(mode="after")
    def _check(self) -> Prompt:
        rules.check_stop_reason(self.expect.stop_reason, self.stop)
        return self


class Compare(Section):
    """Hold the engine to another executor of the same checkpoint, greedily, prompt by prompt."""

    backend: Literal["onnxruntime"] = Field(
        "onnxruntime",
        description="What to compare with: the decoder graph in float32 on the CPU",
    )
    min_equal_tokens: PositiveInt = Field(
        1,
        description="Tokens of each prompt that must be the same from the first on, where so many "
        "are generated",
    )
    max_logit_error: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Largest difference allowed between the logits of the prompts, for engines "
        "with `gather_context_logits`. Default: it is only recorded",
    )


class Smoke(Section):
    """The smoke test: prompts for the built engine, greedy unless a temperature is given."""

    prompts: tuple[Prompt, ...] = Field(
        (Prompt(text="Hello"),),
        min_length=1,
        strict=False,
        description="Prompts and what is expected of their generations",
    )
    max_new_tokens: PositiveInt = Field(16, description="Limit of generated tokens per prompt")
    temperature: Annotated[float, Field(ge=0, le=10)] = Field(
        0.0, description="0 is greedy decoding; above it, sampling"
    )
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="Nucleus of the sampling")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Seed of the sampling")
    require_engine: bool = Field(
        False,
        description="Fail unless the engine itself is executed; otherwise the same graph may be "
        "executed by ONNX Runtime where no supported GPU is present, and the record says so",
    )
    timeout_s: PositiveInt = Field(
        1800,
        description="Seconds for an engine of TensorRT-LLM to load and to generate, before its "
        "process is ended",
    )
    compare: Compare | None = Field(
        None,
        description="Compare the engine's greedy tokens with those of another executor of the "
        "same checkpoint. Default: no comparison",
    )

    @model_validator(mode="after")
    def _check(self) -> Smoke:
        for index, prompt in enumerate(self.prompts):
            expect = prompt.expect
            limit = prompt.max_new_tokens or self.max_new_tokens
            rules.check_expected_tokens(index, expect.min_tokens, expect.token_ids, limit)
        return self
