"""How a router chooses the experts of a token: pure data, for `routing.py`.

Read: TensorRT-LLM 1.2 `layers/moe.py` (MoeConfig); transformers 5.24 `modeling_mixtral.py`,
`modeling_deepseek_v2.py`, `modeling_deepseek_v3.py`, `modeling_phimoe.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Routing:
    """The `top_k` best of `num_experts`, and what they weigh.

    `scoring`: of the router's logits; "sparse_mixer" takes the best expert `top_k` times, each
    weighing its softmax over the rivals within `2 * epsilon` (relative) that are left.
    Groups (`num_groups` > 1): only the experts of the `top_groups` best groups can be chosen; a
    group counts as its best expert ("max") or as the sum of its best two ("sum_of_two").
    `renormalised`: the weights of a token add up to 1; then they are multiplied by `scaling`.
    A softmax over the chosen logits alone is the same as "softmax", renormalised.
    """

    num_experts: int
    top_k: int
    scoring: Literal["softmax", "sigmoid", "sparse_mixer"] = "softmax"
    renormalised: bool = False
    scaling: float = 1.0
    num_groups: int = 1
    top_groups: int = 1
    group_score: Literal["max", "sum_of_two"] = "max"
    epsilon: float = 0.01

    def problems(self) -> list[str]:
        """What of these numbers cannot be computed; an empty list where nothing is amiss."""
        found = []
        if not 0 < self.top_k <= self.num_experts:
            found.append(f"{self.top_k} of {self.num_experts} experts cannot be chosen")
        if self.num_groups == 1:
            return found
        if self.num_groups < 1 or self.num_experts % self.num_groups:
            return [*found, f"{self.num_experts} experts cannot be put in {self.num_groups} groups"]
        in_group = self.num_experts // self.num_groups
        if not 0 < self.top_groups <= self.num_groups:
            found.append(f"{self.top_groups} of {self.num_groups} groups cannot be chosen")
        elif self.top_k > self.top_groups * in_group:
            found.append(f"{self.top_groups} groups of {in_group} have no {self.top_k} experts")
        if self.group_score == "sum_of_two" and in_group < 2:
            found.append("groups of one expert have no best two")
        return found
