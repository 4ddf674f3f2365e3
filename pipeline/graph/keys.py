"""Reading a checkpoint's config.json with an account of every key.

A key that is silently ignored could be one that changes the mathematics: each is used, neutral at
the value that it has, known to change nothing here, or a fault.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pipeline.artifact import Json

_MISSING: Any = object()

# How TensorRT-LLM builds or runs, what the tensors say themselves, or what another part reads.
INERT = (
    "architecture",
    "disable_weight_only_quant_plugin",
    "embedding_sharding_dim",
    "has_partial_lora_mask",
    "kv_dtype",
    "producer",
    "remove_duplicated_kv_heads",
    "runtime_defaults",
    "share_embedding_table",
    "tie_word_embeddings",
    "use_parallel_embedding",
)

DTYPES = ("bfloat16", "float16", "float32")


class Keys:
    """The keys of a config.json, taken one by one; what is amiss is gathered in `faults`."""

    def __init__(self, config: Mapping[str, Json]) -> None:
        self._config = config
        self._seen: set[str] = set(INERT)
        self.faults: list[str] = []

    def __contains__(self, name: str) -> bool:
        return self._config.get(name) is not None

    def get(self, name: str, default: Any = _MISSING) -> Any:
        """The value of a key, required where there is no default. Null is an absent key."""
        self._seen.add(name)
        value = self._config.get(name)
        if value is not None:
            return value
        if default is _MISSING:
            self.faults.append(f"`{name}` is missing")
            return _Anything(1)
        return default

    def flag(self, name: str, default: bool = False) -> bool:
        """A truth value."""
        return bool(self.get(name, default))

    def number(self, name: str, default: Any = _MISSING) -> float:
        """A number, whole or not."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.faults.append(f"`{name}` is `{value}`; expected a number")
            return 1.0
        return float(value)

    def positive(self, name: str, default: Any = _MISSING) -> float:
        """A number above 0."""
        value = self.number(name, default)
        if value > 0:
            return value
        self.faults.append(f"`{name}` is `{self._config.get(name)}`; expected a number above 0")
        return 1.0

    def count(self, name: str, default: Any = _MISSING) -> int:
        """A whole number of at least 1."""
        value = self.get(name, default)
        if type(value) not in (int, _Anything) or value < 1:
            self.faults.append(f"`{name}` is `{value}`; expected a whole number of at least 1")
            return 1
        return int(value)

    def object(self, name: str) -> Mapping[str, Any]:
        """An object; empty where there is none."""
        value = self.get(name, {})
        if isinstance(value, Mapping):
            return value
        self.faults.append(f"`{name}` is `{value}`; expected an object")
        return {}

    def choice(self, name: str, allowed: tuple[Json, ...], default: Any = _MISSING) -> Any:
        """A value out of some."""
        value = self.get(name, default)
        if value not in allowed and not isinstance(value, _Anything):
            self.faults.append(f"`{name}` is `{value}`; supported: {_spell(allowed)}")
            return allowed[0]
        return value

    def neutral(self, name: str, *allowed: Json) -> None:
        """A key that must be absent or have a value with which it changes nothing."""
        self._seen.add(name)
        value = self._config.get(name)
        if value is not None and value not in allowed:
            self.faults.append(f"`{name}` is `{value}`; supported: {_spell(allowed)}")

    def ignore(self, *names: str) -> None:
        """Keys that change nothing in this class, whatever they say."""
        self._seen |= set(names)

    def finish(self) -> list[str]:
        """All faults, with those keys that nobody took."""
        known = sorted(self._seen)
        unknown = []
        for name in sorted(set(self._config) - self._seen):
            near = difflib.get_close_matches(name, known, 1)
            unknown.append(f"`{name}` is not known" + (f" (`{near[0]}` is)" if near else ""))
        return list(dict.fromkeys([*unknown, *self.faults]))


class _Anything(int):
    """Stands in for a missing value, so that reading goes on to the next fault."""


def general(keys: Keys) -> None:
    """The keys of every class that say how weights are stored and split."""
    keys.choice("dtype", DTYPES)
    keys.choice("logits_dtype", DTYPES, "float32")
    quantization = keys.object("quantization")
    if quantization.get("quant_algo") or quantization.get("kv_cache_quant_algo"):
        keys.faults.append("`quantization` has an algorithm; only plain weights are supported")
    if keys.object("mapping").get("cp_size", 1) != 1:
        keys.faults.append("`mapping.cp_size` is not 1")


def _spell(values: tuple[Json, ...]) -> str:
    return ", ".join(f"`{value}`" for value in values if value is not None)
