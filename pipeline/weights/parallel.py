"""How a model is split over ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.artifact import Json

GPUS_PER_NODE = 8


@dataclass(frozen=True, slots=True)
class Parallelism:
    """Sizes of every kind of parallelism; tp_rank runs fastest, then cp, then pp.

    Within a tp group, moe_ep ranks run fastest (TensorRT-LLM 1.x `mapping.py`). Of `moe_tp_size`
    and `moe_ep_size`, one that is 0 follows from the other; both 0: each rank has a part of all
    experts. `embedding_dim`: the dim (0 vocabulary, 1 hidden) on which
    the tp ranks share the embedding; None: each holds all of it.
    """

    tp_size: int = 1
    pp_size: int = 1
    cp_size: int = 1
    moe_tp_size: int = 0
    moe_ep_size: int = 0
    embedding_dim: int | None = None

    def __post_init__(self) -> None:
        assert min(self.tp_size, self.pp_size, self.cp_size) >= 1, self
        if not self.moe_ep_size:
            experts = self.tp_size // self.moe_tp_size if self.moe_tp_size else 1
            object.__setattr__(self, "moe_ep_size", experts)
        if not self.moe_tp_size:
            object.__setattr__(self, "moe_tp_size", self.tp_size // self.moe_ep_size)
        assert self.moe_tp_size * self.moe_ep_size == self.tp_size, self

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.tp_size * self.pp_size * self.cp_size

    @property
    def num_files(self) -> int:
        """Number of rank files; the cp ranks of a (pp, tp) rank share one."""
        return self.tp_size * self.pp_size

    def file_number(self, pp_rank: int, tp_rank: int) -> int:
        """The number N of `rank<N>.safetensors` of a (pp_rank, tp_rank) pair."""
        return pp_rank * self.tp_size + tp_rank

    def layers(self, pp_rank: int, num_layers: int) -> range:
        """Layers of a pp rank: where `num_layers % pp_size` is n, the first n ranks have one more.

        Source: TensorRT-LLM 1.x, `Mapping.pp_layers` (a tensor_split).
        """
        size, longer = divmod(num_layers, self.pp_size)
        first = pp_rank * size + min(pp_rank, longer)
        return range(first, first + size + (pp_rank < longer))

    def experts(self, tp_rank: int, num_experts: int) -> range:
        """The experts of a tp rank: a block of num_experts / moe_ep_size (`Mapping.ep_experts`)."""
        count = num_experts // self.moe_ep_size
        first = tp_rank % self.moe_ep_size * count
        return range(first, first + count)

    def mapping(self) -> dict[str, int]:
        """The `mapping` object of config.json.

        It becomes keyword arguments of a constructor, where an unknown name is an error: these
        seven are known to every 1.x release.
        """
        return {
            "world_size": self.world_size,
            "gpus_per_node": GPUS_PER_NODE,
            "cp_size": self.cp_size,
            "tp_size": self.tp_size,
            "pp_size": self.pp_size,
            "moe_tp_size": self.moe_tp_size,
            "moe_ep_size": self.moe_ep_size,
        }


def parallelism_of(config: Mapping[str, Json]) -> Parallelism:
    """The parallelism that a target's config.json states.

    Keys that other writers leave out have the defaults of TensorRT-LLM 1.2 (`mapping.py`, where -1
    stands for one; `models/modeling_utils.py`).
    """
    mapping = config.get("mapping") or {}
    sizes = {key: mapping.get(key) or 1 for key in ("tp_size", "pp_size", "cp_size")}
    experts = {key: max(0, mapping.get(key) or 0) for key in ("moe_tp_size", "moe_ep_size")}
    is_shared = config.get("use_parallel_embedding")
    dim = config.get("embedding_sharding_dim") or 0 if is_shared else None
    return Parallelism(**sizes, **experts, embedding_dim=dim)
