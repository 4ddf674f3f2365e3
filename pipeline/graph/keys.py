"""Reading a checkpoint's config.json with an account of every key.

A key that is silently ignored could be one that changes the mathematics: each is used, neutral at
the value that it has, known to change nothing here, or a fault.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

from pipeline.artifact import Json

_MISSING: Any = object()

# How TensorRT-LLM builds or runs, flags of its converters that they leave there, what the tensors
# say themselves, or what another part reads.
INERT = (
    "architecture",
    "dense_context_fmha",
    "disable_weight_only_quant_plugin",
    "embedding_sharding_dim",
    "has_partial_lora_mask",
    "kv_dtype",
    "load_model_on_cpu",
    "producer",
    "remove_duplicated_kv_heads",
    "runtime_defaults",
    "share_embedding_table",
    "tie_word_embeddings",
    "use_parallel_embedding",
)

DTYPES = ("bfloat16", "float16", "float32")


class Keys:
    """The keys of a config.json, taken one by one; what is amiss is gathered in `faults`.

    `inside`: of which object these are the keys (`moe.`), for the words of faults.
    """

    def __init__(
        self, config: Mapping[str, Json], inside: str = "", inert: tuple[str, ...] = INERT
    ) -> None:
        self._config, self._inside = config, inside
        self._seen: set[str] = set(inert)
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
            self._fault(name, "is missing")
            return _Anything(1)
        return default

    def flag(self, name: str, default: bool = False) -> bool:
        """A truth value."""
        return bool(self.choice(name, (False, True), default))

    def number(self, name: str, default: Any = _MISSING) -> float:
        """A number, whole or not."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._fault(name, f"is `{value}`; expected a number")
            return 1.0
        return float(value)

    def positive(self, name: str, default: Any = _MISSING) -> float:
        """A number above 0."""
        value = self.number(name, default)
        if value > 0:
            return value
        self._fault(name, f"is `{self._config.get(name)}`; expected a number above 0")
        return 1.0

    def limit(self, name: str) -> float | None:
        """A number above 0, or None where there is none."""
        return self.positive(name) if name in self else self.get(name, None)

    def count(self, name: str, default: Any = _MISSING) -> int:
        """A whole number of at least 1."""
        value = self.get(name, default)
        if type(value) not in (int, _Anything) or value < 1:
            self._fault(name, f"is `{value}`; expected a whole number of at least 1")
            return 1
        return int(value)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of numbers."""
        value = self.get(name)
        if isinstance(value, list) and all(type(each) in (int, float) for each in value):
            return tuple(value)
        if not isinstance(value, _Anything):
            self._fault(name, "is not a list of numbers")
        return ()

    def object(self, name: str) -> Mapping[str, Any]:
        """An object; empty where there is none."""
        value = self.get(name, {})
        if isinstance(value, Mapping):
            return value
        self._fault(name, f"is `{value}`; expected an object")
        return {}

    def inner(self, name: str) -> Keys:
        """The keys of an object, whose faults are gathered apart (`finish`)."""
        return Keys(self.object(name), f"{self._inside}{name}.", ())

    def choice(self, name: str, allowed: tuple[Json, ...], default: Any = _MISSING) -> Any:
        """A value out of some."""
        value = self.get(name, default)
        if isinstance(value, _Anything):
            return allowed[0]
        if value not in allowed:
            self._fault(name, f"is `{value}`; supported: {_spell(allowed)}")
            return allowed[0]
        return value

    def neutral(self, name: str, *allowed: Json) -> None:
        """A key that must be absent or have a value with which it changes nothing."""
        self._seen.add(name)
        value = self._config.get(name)
        if value is not None and value not in allowed:
            self._fault(name, f"is `{value}`; supported: {_spell(allowed)}")

    def ignore(self, *names: str) -> None:
        """Keys that change nothing in this class, whatever they say."""
        self._seen |= set(names)

    def finish(self) -> list[str]:
        """All faults, with those keys that nobody took."""
        known = sorted(self._seen)
        unknown = []
        for name in sorted(set(self._config) - self._seen):
            near = difflib.get_close_matches(name, known, 1)
            place = f"`{self._inside}{name}`"
            unknown.append(f"{place} is not known" + (f" (`{near[0]}` is)" if near else ""))
        return list(dict.fromkeys([*unknown, *self.faults]))

    def _fault(self, name: str, words: str) -> None:
        self.faults.append(f"`{self._inside}{name}` {words}")


class _Anything(int):
    """Stands in for a missing value, so that reading goes on to the next fault."""


def general(keys: Keys) -> None:
    """The keys of every class that say how weights are stored and split."""
    keys.choice("dtype", DTYPES)
    keys.choice("logits_dtype", DTYPES, "float32")
    quantization = keys.object("quantization")
    if quantization.get("quant_algo") or quantization.get("kv_cache_quant_algo"):
        keys.faults.append("`quantization` has an algorithm; only plain weights are supported")
    keys.choice("embedding_sharding_dim", (0, 1), 0)
    keys.flag("use_parallel_embedding")
    keys.faults += _mapping(keys.inner("mapping"))


def _mapping(keys: Keys) -> list[str]:
    """How the weights are split (TensorRT-LLM 1.2, `mapping.py`: Mapping); -1 is a default there.

    Attention that is not split as the rest is, and layers that are not split evenly, are refused.
    """
    tp_size, _ = keys.count("tp_size", 1), keys.count("pp_size", 1)
    names = ("moe_tp_size", "moe_ep_size")
    given = [keys.count(name) for name in names if keys.get(name, -1) not in (-1, 0)]
    fits = math.prod(given) == tp_size if len(given) == 2 else not tp_size % math.prod(given)
    if not fits:
        keys.faults.append(f"the sizes of `mapping` do not fit: `tp_size` {tp_size}, MoE {given}")
    keys.neutral("cp_size", 1)
    keys.neutral("cp_config", {})
    keys.neutral("pp_partition")
    keys.neutral("moe_cluster_size", 1, -1)
    keys.neutral("attn_tp_size", tp_size, -1)
    keys.neutral("attn_cp_size", 1, -1)
    keys.neutral("enable_attention_dp", False)
    keys.neutral("enable_lm_head_tp_in_adp", False)
    keys.neutral("auto_parallel", False)
    keys.ignore("world_size", "gpus_per_node", "rank")
    return keys.finish()


def _spell(values: tuple[Json, ...]) -> str:
    return ", ".join(f"`{value}`" for value in values if value is not None) or "none"
