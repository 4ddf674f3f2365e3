"""What a model family is: the data that converts its architectures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.artifact import Json, digest_json
from pipeline.weights.config_rules import ConfigRule
from pipeline.weights.config_translation import attention_window
from pipeline.weights.inventory import LOADER_WORDS, Parameter, Words
from pipeline.weights.rules import WeightRule


@dataclass(frozen=True)
class Family:
    """One family of decoders, as data. A new family is one file that defines `FAMILY`.

    `architectures`: the exact strings of config.json's `architectures` that it converts.
    `config`: rules for every key of the source's config.json, in the order of the keys to write.
    `weight_map`: rules for every tensor, in the order in which a rank file holds them.
    `inventory`: what TensorRT-LLM requires of a rank file; families that share a TensorRT-LLM
    class share it.
    `words`: how TensorRT-LLM's own loader translates target names, for the round trip.
    """

    name: str
    architectures: tuple[str, ...]
    config: tuple[ConfigRule, ...]
    weight_map: tuple[WeightRule, ...]
    inventory: tuple[Parameter, ...]
    words: Words = field(default_factory=lambda: LOADER_WORDS)

    def attention_window(self, config: Mapping[str, Json]) -> int | None:
        """How many last tokens attention sees, by a source's config.json; None for all.

        A target cannot express it, so an engine is only right for sequences up to this length.
        """
        architectures = config.get("architectures") or [""]
        return attention_window(self.config, config, architectures[0])

    def digest(self) -> str:
        """A digest of all rules: conversions with equal digests are made by the same data."""
        return digest_json(
            [repr(self.config), repr(self.weight_map), repr(self.inventory), repr(self.words)]
        )
