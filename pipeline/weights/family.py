"""What a model family is: the data that converts its architectures."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.artifact import digest_json
from pipeline.weights.config_rules import ConfigRule
from pipeline.weights.model_class import ModelClass
from pipeline.weights.rules import WeightRule


@dataclass(frozen=True)
class Family:
    """One family of decoders, as data. A new family is one file that defines `FAMILY`.

    `architectures`: the exact strings of config.json's `architectures` that it converts.
    `aliases`: those of them that are another spelling, with the same tensors and config.
    `model_class`: the TensorRT-LLM class that they become (`pipeline/model_classes/`).
    `config`: rules for every key of the source's config.json.
    `weight_map`: rules for every tensor, in the order in which a rank file holds them.
    `writes_architecture`: what the target's config.json names, where it is another.
    `optional_prefix`: the start of source names that a checkpoint without a head leaves out.
    """

    name: str
    architectures: tuple[str, ...]
    model_class: ModelClass
    config: tuple[ConfigRule, ...]
    weight_map: tuple[WeightRule, ...]
    writes_architecture: str | None = None
    aliases: tuple[str, ...] = ()
    optional_prefix: str = ""

    def digest(self) -> str:
        """A digest of all rules: conversions with equal digests are made by the same data."""
        return digest_json(
            [
                repr(self.config),
                repr(self.weight_map),
                repr(self.model_class),
                repr(self.writes_architecture),
                self.optional_prefix,
            ]
        )
