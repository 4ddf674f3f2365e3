"""Rules of TensorRT-LLM 1.2 between options, model and GPU, as data: what holds, and what to do.

One table serves the plan, the mistakes of a recipe, and `trtllm-pack explain`. A rule's condition
is a formula (`pipeline.formulas`); it is asked as soon as all names that it reads are known, so a
recipe by itself is held against the rules between options, a plan against all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.artifact import Json
from pipeline.formulas import holds, names_in

Effect = Literal["refused", "changed", "unmet", "unfused", "ignored"]
"""What TensorRT-LLM does where the condition holds.

`refused`: it fails, or its result is wrong. `changed`: it sets an option otherwise than asked,
saying at most a warning. `unmet`: it keeps the option, says nothing, and builds an engine without
what the option is for. `unfused`: context attention runs without fused kernels. `ignored`: an
option has no effect, or less than it promises, and nobody would miss it. The first three are always
errors here, the fourth is one where fused attention is required, the last is told.
"""

Sureness = Literal["1.2", "1.3rc3", "1.x", "0.14", "reported", "inferred"]
"""How sure the source of a rule is: read in a source state of that line (1.3.0rc3 still had the
engine workflow, in maintenance); reported by third parties; inferred from what was read."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `when`: the formula that must not hold; `keys`: recipe keys that it is about, the
    one to change first.

    `says` and `fix` are formats over the facts (`{sm}`, `{model[head_size]}`). `source` names
    project and file. Facts of the settings alone: every key of `engine` that the backend `trtllm`
    reads, by its name, `max_num_tokens` worked out; `context_fmha`, `require_fused`; `num_targets`;
    `unknown_lora_modules`, as text. Facts of the checkpoint: `model`, its config.json with every
    size filled in; `model_class`, TensorRT-LLM's class of it, or None; `quant_algo` and
    `kv_cache_quant_algo`, or None; `rope_type`, or None; `max_positions`, the longest sequence that
    its positions reach, or None; `num_experts`; `tp_size`, `pp_size`, `cp_size`, `moe_ep_size`,
    `world_size`. Facts of a target: `sm`, a number such as 90, and `target`, such as `sm90`.
    """

    name: str
    effect: Effect
    when: str
    keys: tuple[str, ...]
    says: str
    fix: str
    source: str
    sure: Sureness

    @property
    def needs(self) -> frozenset[str]:
        """The facts that the condition reads."""
        return names_in(self.when)


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule whose condition holds, in words."""

    rule: Rule
    message: str
    hint: str

    @property
    def told_source(self) -> str:
        """For example `rule `x`: TensorRT-LLM `builder.py` (read in a 1.2 source state)`."""
        return f"rule `{self.rule.name}`: {self.rule.source} ({SURENESS[self.rule.sure]})"


SURENESS: Mapping[Sureness, str] = {
    "1.2": "read in a source state of the 1.2 line",
    "1.3rc3": "read at 1.3.0rc3, soon after 1.2",
    "1.x": "read in a source state of the 1.x line",
    "0.14": "read in 0.14 only",
    "reported": "reported by third parties",
    "inferred": "inferred, not read",
}


def find_broken(rules: Iterable[Rule], facts: Mapping[str, Json]) -> list[Finding]:
    """The rules whose condition holds; one that reads a fact that is not known yet is passed by."""
    return [
        Finding(rule, rule.says.format_map(facts), rule.fix.format_map(facts))
        for rule in rules
        if rule.needs <= facts.keys() and holds(rule.when, facts)
    ]
