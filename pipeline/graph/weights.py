"""Where the weights of the whole decoder lie in the rank files: a pure view, no bytes are read.

Tensor- and pipeline-parallel checkpoints are joined again here: a joined tensor is one row range
per rank file, or one tensor of each, and the dim on which these are to be concatenated. Names,
shapes and splits are those of TensorRT-LLM 1.2 (`models/modeling_utils.py`, `mapping.py`): layers
are numbered from 0 in each pp rank, K/V heads are repeated where there are fewer than tp ranks, the
rows of `lm_head` are padded to a multiple of `tp_size`, within a tp group moe_ep ranks run fastest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.checkpoint.safetensors_file import ITEM_BYTES, TensorInfo
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.weights.parallel import Parallelism, parallelism_of

_LAYER = re.compile(r"transformer\.layers\.(\d+)\.(.+)")

EMBEDDING = "transformer.vocab_embedding.weight"
HEAD = "lm_head.weight"
HEAD_BIAS = "lm_head.bias"
POSITIONS = "transformer.position_embedding.weight"


@dataclass(frozen=True, slots=True)
class Joined:
    """A tensor of the whole model: parts to concatenate on `dim`, each contiguous in its file."""

    name: str
    parts: tuple[TensorInfo | Joined, ...]
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
    """The joined tensors of a checkpoint, by the names of a rank file with one pp rank.

    Names inside a layer are without `transformer.layers.<i>.`. Every tensor that is handed out is
    noted, so that those that no part asked for can be named (`unused`).
    """

    def __init__(self, checkpoint: TrtllmCheckpoint) -> None:
        self._parallelism = parallelism_of(checkpoint.config)
        self._vocab_size = int(checkpoint.config["vocab_size"])
        self._num_positions = int(checkpoint.config.get("max_position_embeddings") or 0)
        self._heads = int(checkpoint.config["num_attention_heads"])
        self._ranks = unpipelined(checkpoint)
        self._used: set[str] = set()

    def has(self, name: str, layer: int | None = None) -> bool:
        """Whether the checkpoint has a tensor."""
        return _full(name, layer) in self._ranks[0]

    def whole(self, name: str, layer: int | None = None) -> Joined:
        """A tensor that every rank of a tp group repeats, e.g. a norm weight `[hidden_size]`."""
        return Joined(_full(name, layer), (self._take(0, name, layer),))

    def whole_or_none(self, name: str, layer: int | None = None) -> Joined | None:
        """As `whole`; None where the checkpoint has no such tensor, e.g. a bias."""
        return self.whole(name, layer) if self.has(name, layer) else None

    def rows(self, name: str, first: int, count: int, layer: int) -> Joined:
        """Rows of a tensor that every rank of a tp group repeats."""
        return Joined(
            f"{_full(name, layer)}.{first}", (_rows(self._take(0, name, layer), first, count),)
        )

    def split(self, name: str, dim: int, layer: int | None = None) -> Joined:
        """A tensor that the tp ranks share evenly on `dim`."""
        parts = tuple(self._take(rank, name, layer) for rank in self._tp_ranks)
        return Joined(_full(name, layer), parts, dim)

    def block(self, name: str, sizes: Sequence[int], index: int, layer: int) -> Joined:
        """Rows of a tensor whose rows are blocks of `sizes` (of the whole model), shared evenly.

        In each rank file the blocks follow one another, each with that rank's part.
        """
        count = self._parallelism.tp_size
        first, rows = sum(sizes[:index]) // count, sizes[index] // count
        parts = [_rows(self._take(rank, name, layer), first, rows) for rank in self._tp_ranks]
        return Joined(f"{_full(name, layer)}.{index}", tuple(parts))

    def heads(
        self, part: Literal["q", "k", "v"], suffix: str, layer: int, num_kv_heads: int, size: int
    ) -> Joined:
        """Rows of the fused `attention.qkv` that make the queries, keys or values of all heads.

        Per rank: `[(num_heads + 2 * num_kv_heads) * head_size, ...]`, queries first. Where a K/V
        head is repeated over several ranks, the first of these gives it.
        """
        tp_size, name = self._parallelism.tp_size, f"attention.qkv.{suffix}"
        num_q, num_kv = self._heads // tp_size, max(1, num_kv_heads // tp_size)
        repeats = max(1, tp_size // num_kv_heads)
        first, count = {"q": (0, num_q), "k": (num_q, num_kv), "v": (num_q + num_kv, num_kv)}[part]
        ranks = range(0, tp_size, 1 if part == "q" else repeats)
        parts = [_rows(self._take(r, name, layer), first * size, count * size) for r in ranks]
        return Joined(_full(f"attention.{part}.{suffix}", layer), tuple(parts))

    def kv_split(self, name: str, layer: int, num_kv_heads: int) -> Joined:
        """A tensor of one row for each K/V head, shared as these are."""
        tp_size = self._parallelism.tp_size
        ranks = range(0, tp_size, max(1, tp_size // num_kv_heads))
        return Joined(_full(name, layer), tuple(self._take(r, name, layer) for r in ranks))

    def experts(self, name: str, layer: int, dim: int) -> Joined:
        """A tensor of all experts, `[num_experts, ...]`; moe_tp ranks share it on `dim`.

        Parts of moe_ep ranks are joined on dim 0 first.
        """
        groups = []
        for tp_rank, ranks in enumerate(self._expert_ranks()):
            parts = tuple(self._take(rank, name, layer) for rank in ranks)
            groups.append(Joined(f"{_full(name, layer)}.tp{tp_rank}", parts))
        return Joined(_full(name, layer), tuple(groups), dim)

    def expert(self, name: str, layer: int, dim: int, expert: int) -> Joined:
        """One expert's matrix out of a tensor of all; moe_tp ranks share it on `dim`."""
        parts = []
        for ranks in self._expert_ranks():
            held = self._take(ranks[0], name, layer).shape[0]
            parts.append(_item(self._take(ranks[expert // held], name, layer), expert % held))
        return Joined(f"{_full(name, layer)}.expert{expert}", tuple(parts), dim)

    def _expert_ranks(self) -> list[range]:
        """For each moe_tp rank the ranks that hold its experts between them."""
        across = self._parallelism.moe_ep_size
        starts = range(0, self._parallelism.tp_size, across)
        return [range(start, start + across) for start in starts]

    @property
    def tp_size(self) -> int:
        """Over how many ranks most tensors are shared."""
        return self._parallelism.tp_size

    @property
    def num_expert_parts(self) -> int:
        """Over how many moe_tp ranks each expert's inner width is shared."""
        return self._parallelism.moe_tp_size

    def embedding(self) -> Joined:
        """`transformer.vocab_embedding.weight` `[vocab_size, hidden_size]`, padding cut off."""
        return self._embedded(EMBEDDING, self._vocab_size)

    def positions(self) -> Joined:
        """`transformer.position_embedding.weight`, a row for each position, padding cut off."""
        return self._embedded(POSITIONS, self._num_positions)

    def _embedded(self, name: str, count: int) -> Joined:
        """A table of `count` rows that ranks share as they share the embedding, or hold whole."""
        dim = self._parallelism.embedding_dim
        if dim is None:
            return self.whole(name)
        return self._padded_rows(name, count) if dim == 0 else self.split(name, 1)

    def head(self) -> Joined:
        """`lm_head.weight` `[vocab_size, hidden_size]`, padding cut off."""
        return self._padded_rows(HEAD, self._vocab_size)

    def head_bias(self) -> Joined:
        """`lm_head.bias` `[vocab_size]`, padding cut off."""
        return self._padded_rows(HEAD_BIAS, self._vocab_size)

    def unused(self, harmless: Callable[[str], bool]) -> list[str]:
        """Tensors that nobody asked for, but those whose names are harmless."""
        names = [name for name in self._ranks[0] if name not in self._used]
        return [name for name in names if not harmless(name)]

    @property
    def _tp_ranks(self) -> range:
        return range(self._parallelism.tp_size)

    def _padded_rows(self, name: str, left: int) -> Joined:
        """`left` rows, padded to a multiple of tp_size and split evenly: the padding is cut off."""
        parts = []
        for rank in self._tp_ranks:
            part = self._take(rank, name, None)
            count = min(part.shape[0], left)
            left -= count
            if count:
                parts.append(_rows(part, 0, count))
        return Joined(name, tuple(parts))

    def _take(self, tp_rank: int, name: str, layer: int | None) -> TensorInfo:
        full = _full(name, layer)
        self._used.add(full)
        return self._ranks[tp_rank][full]


def unpipelined(checkpoint: TrtllmCheckpoint) -> tuple[dict[str, TensorInfo], ...]:
    """For each tp rank its tensors of all pp ranks, with the layers numbered through the model.

    What several pp ranks hold (an embedding that the last one needs too) is that of the first.
    """
    parallelism = parallelism_of(checkpoint.config)
    joined: list[dict[str, TensorInfo]] = [{} for _ in range(parallelism.tp_size)]
    for tp_rank, tensors in enumerate(joined):
        for pp_rank in range(parallelism.pp_size):
            first = _first_layer(checkpoint, parallelism, pp_rank)
            for name, tensor in checkpoint.ranks[pp_rank * parallelism.tp_size + tp_rank].items():
                found = _LAYER.fullmatch(name)
                whole = name if found is None else _full(found[2], first + int(found[1]))
                tensors.setdefault(whole, tensor)
    return tuple(joined)


def _first_layer(checkpoint: TrtllmCheckpoint, parallelism: Parallelism, pp_rank: int) -> int:
    return parallelism.layers(pp_rank, int(checkpoint.config["num_hidden_layers"])).start


def _full(name: str, layer: int | None) -> str:
    return name if layer is None else f"transformer.layers.{layer}.{name}"


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


def _item(tensor: TensorInfo, index: int) -> TensorInfo:
    """Item `index` of the first dim, without that dim."""
    one = _rows(tensor, index, 1)
    return replace(one, shape=one.shape[1:])
