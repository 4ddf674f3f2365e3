"""Where the weights of the whole decoder lie in the rank files: a pure view, no bytes are read.

Tensor- and pipeline-parallel checkpoints are joined again here: a joined tensor is one row range
per rank file and the dim on which these are to be concatenated. Names, shapes and splits are those
of TensorRT-LLM 1.2 (`models/modeling_utils.py`, `models/llama/convert.py`): layers are numbered
from 0 in each pp rank, K/V heads are repeated where there are fewer than tp ranks, the rows of
`lm_head` are padded to a multiple of `tp_size`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pipeline.checkpoint.safetensors_file import ITEM_BYTES, TensorInfo
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.errors import VerificationError
from pipeline.graph.config import DecoderConfig

_LAYER = "transformer.layers."


@dataclass(frozen=True, slots=True)
class Joined:
    """A tensor of the whole model: parts to concatenate on `dim`, each contiguous in its file."""

    name: str
    parts: tuple[TensorInfo, ...]
    dim: int = 0

    @property
    def dtype(self) -> str:
        """Storage type, the same for all parts."""
        return self.parts[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape after joining."""
        shape = list(self.parts[0].shape)
        shape[self.dim] = sum(part.shape[self.dim] for part in self.parts)
        return tuple(shape)


class JoinedWeights:
    """The joined tensors of a checkpoint, by name; what is amiss is gathered in `faults`."""

    def __init__(self, checkpoint: TrtllmCheckpoint, config: DecoderConfig) -> None:
        self.ranks = checkpoint.ranks
        self.config = config
        self.faults: dict[str, None] = {}  # a set in order: q, k and v ask for the same tensor
        self.layers = self._place_layers()

    def raise_faults(self) -> None:
        """Raise VerificationError with every missing or misshapen tensor that was asked for."""
        if self.faults:
            raise VerificationError(
                "the rank files do not hold the decoder that `config.json` describes",
                facts=list(self.faults),
                hint="convert the source checkpoint again",
            )

    def whole(self, name: str, shape: tuple[int, ...], layer: int | None = None) -> Joined:
        """A tensor that every rank of a tp group repeats, e.g. a norm weight `[hidden_size]`."""
        pp_rank = self.config.pp_size - 1 if layer is None else self.layers[layer][0]
        return Joined(_public_name(name, layer), (self._take(pp_rank, 0, name, shape, layer),))

    def split(self, name: str, shape: tuple[int, ...], dim: int, layer: int) -> Joined:
        """A tensor of the whole model's `shape` that the tp ranks share evenly on `dim`."""
        local = list(shape)
        local[dim] //= self.config.tp_size
        parts = [
            self._take(self.layers[layer][0], tp_rank, name, tuple(local), layer)
            for tp_rank in range(self.config.tp_size)
        ]
        return Joined(_public_name(name, layer), tuple(parts), dim)

    def heads(self, part: Literal["q", "k", "v"], suffix: str, layer: int) -> Joined:
        """Rows of the fused `attention.qkv` that make the queries, keys or values of all heads.

        Per rank: `[(num_heads + 2 * num_kv_heads) * head_size, ...]`, queries first. Where a K/V
        head is repeated over several ranks, the first of these gives it.
        """
        config = self.config
        num_q = config.num_attention_heads // config.tp_size
        repeats = max(1, config.tp_size // config.num_key_value_heads)
        num_kv = max(1, config.num_key_value_heads // config.tp_size)
        first, count = {"q": (0, num_q), "k": (num_q, num_kv), "v": (num_q + num_kv, num_kv)}[part]
        tail = (config.hidden_size,) if suffix == "weight" else ()
        shape = ((num_q + 2 * num_kv) * config.head_size, *tail)
        name, parts = f"attention.qkv.{suffix}", []
        for tp_rank in range(0, config.tp_size, 1 if part == "q" else repeats):
            fused = self._take(self.layers[layer][0], tp_rank, name, shape, layer)
            parts.append(_rows(fused, first * config.head_size, count * config.head_size))
        return Joined(_public_name(f"attention.{part}.{suffix}", layer), tuple(parts))

    def embedding(self) -> Joined:
        """`transformer.vocab_embedding.weight` `[vocab_size, hidden_size]`, padding cut off."""
        config, name = self.config, "transformer.vocab_embedding.weight"
        rows, columns = config.vocab_size, config.hidden_size
        if config.embedding_shard_dim is None:
            return Joined(name, (self._take(0, 0, name, (rows, columns), None),))
        if config.embedding_shard_dim == 0:
            return self._vocabulary(name, pp_rank=0)
        local = (rows, columns // config.tp_size)
        ranks = range(config.tp_size)
        return Joined(name, tuple(self._take(0, r, name, local, None) for r in ranks), dim=1)

    def head(self) -> Joined:
        """`lm_head.weight` `[vocab_size, hidden_size]`, padding cut off."""
        return self._vocabulary("lm_head.weight", pp_rank=self.config.pp_size - 1)

    def _vocabulary(self, name: str, pp_rank: int) -> Joined:
        """Rows split evenly after padding to a multiple of tp_size: the padding is cut off."""
        config = self.config
        local = -(-config.vocab_size // config.tp_size)
        parts = []
        for tp_rank in range(config.tp_size):
            part = self._take(pp_rank, tp_rank, name, (local, config.hidden_size), None)
            count = min(local, config.vocab_size - tp_rank * local)
            if count > 0:
                parts.append(_rows(part, 0, count))
        return Joined(name, tuple(parts))

    def _place_layers(self) -> list[tuple[int, int]]:
        """(pp_rank, local layer) of every layer, by what the first rank of each pp rank holds."""
        config = self.config
        if len(self.ranks) != config.tp_size * config.pp_size:
            raise VerificationError(
                f"the checkpoint has {len(self.ranks)} rank files, but `tp_size` is "
                f"{config.tp_size} and `pp_size` is {config.pp_size}"
            )
        placed = []
        for pp_rank in range(config.pp_size):
            names = self.ranks[pp_rank * config.tp_size]
            local = {name[len(_LAYER) :].split(".")[0] for name in names if name.startswith(_LAYER)}
            placed += [(pp_rank, layer) for layer in range(len(local))]
        if len(placed) != config.num_hidden_layers:
            raise VerificationError(
                f"the rank files hold {len(placed)} layers, but `num_hidden_layers` is "
                f"{config.num_hidden_layers}"
            )
        return placed

    def _take(
        self, pp_rank: int, tp_rank: int, name: str, shape: tuple[int, ...], layer: int | None
    ) -> TensorInfo:
        """One stored tensor, checked; a stand-in of the right shape where it is amiss."""
        rank = pp_rank * self.config.tp_size + tp_rank
        stored = name if layer is None else f"{_LAYER}{self.layers[layer][1]}.{name}"
        found = self.ranks[rank].get(stored)
        if found is None:
            self.faults[f"`{stored}` is missing from `rank{rank}.safetensors`"] = None
        elif found.shape != shape or found.dtype != self.config.dtype:
            self.faults[
                f"`{stored}` of `rank{rank}.safetensors` is {found.dtype} {list(found.shape)}, "
                f"expected {self.config.dtype} {list(shape)}"
            ] = None
        else:
            return found
        return TensorInfo(stored, self.config.dtype, shape, f"rank{rank}.safetensors", 0, 0)


def _public_name(name: str, layer: int | None) -> str:
    return name if layer is None else f"{_LAYER}{layer}.{name}"


def _rows(tensor: TensorInfo, first: int, count: int) -> TensorInfo:
    """Rows `[first, first + count)` of a row-major tensor: one byte range."""
    row_bytes = ITEM_BYTES[tensor.dtype]
    for size in tensor.shape[1:]:
        row_bytes *= size
    return replace(
        tensor,
        shape=(count, *tensor.shape[1:]),
        offset=tensor.offset + first * row_bytes,
        num_bytes=count * row_bytes,
    )
