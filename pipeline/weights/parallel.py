"""How a model is split over ranks."""

from __future__ import annotations

from dataclasses import dataclass

GPUS_PER_NODE = 8


@dataclass(frozen=True, slots=True)
class Parallelism:
    """Tensor- and pipeline-parallel sizes; tp_rank runs fastest (TensorRT-LLM `mapping.py`)."""

    tp_size: int
    pp_size: int

    def __post_init__(self) -> None:
        assert self.tp_size >= 1, self.tp_size
        assert self.pp_size >= 1, self.pp_size

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.tp_size * self.pp_size

    def rank(self, pp_rank: int, tp_rank: int) -> int:
        """The rank of a (pp_rank, tp_rank) pair."""
        return pp_rank * self.tp_size + tp_rank

    def layers(self, pp_rank: int, num_layers: int) -> range:
        """Layers of a pp rank: where `num_layers % pp_size` is n, the first n ranks have one more.

        Source: TensorRT-LLM 1.x, `Mapping.pp_layers` (a tensor_split).
        """
        size, longer = divmod(num_layers, self.pp_size)
        first = pp_rank * size + min(pp_rank, longer)
        return range(first, first + size + (pp_rank < longer))

    def mapping(self) -> dict[str, int]:
        """The `mapping` object of config.json.

        It becomes keyword arguments of a constructor, where an unknown name is an error: these
        seven are known to every 1.x release.
        """
        return {
            "world_size": self.world_size,
            "gpus_per_node": GPUS_PER_NODE,
            "cp_size": 1,
            "tp_size": self.tp_size,
            "pp_size": self.pp_size,
            "moe_tp_size": self.tp_size,
            "moe_ep_size": 1,
        }
