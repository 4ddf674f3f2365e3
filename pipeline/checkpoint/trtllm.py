"""A TensorRT-LLM checkpoint: config.json and one `rank<N>.safetensors` per rank.

Source of the format: TensorRT-LLM 1.2, `tensorrt_llm/models/modeling_utils.py` (PretrainedConfig,
PretrainedModel.from_checkpoint) and `tensorrt_llm/mapping.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact import Json
from pipeline.checkpoint.safetensors_file import TensorInfo, read_header
from pipeline.checkpoint.strict_json import listed, read_object
from pipeline.errors import VerificationError
from pipeline.system.refusals import file_error

CONFIG_NAME = "config.json"

_REQUIRED = ("architecture", "dtype", "hidden_size", "num_hidden_layers", "num_attention_heads")


@dataclass(frozen=True)
class TrtllmCheckpoint:
    """Read-only view: `ranks[r]` are the tensors of `rank<r>.safetensors` by name."""

    path: Path
    config: Mapping[str, Json]
    ranks: tuple[Mapping[str, TensorInfo], ...]

    @property
    def tp_size(self) -> int:
        """Tensor-parallel size."""
        return int(self.config["mapping"].get("tp_size", 1))

    @property
    def pp_size(self) -> int:
        """Pipeline-parallel size."""
        return int(self.config["mapping"].get("pp_size", 1))

    @property
    def parallelism(self) -> tuple[int, int]:
        """(tp_size, pp_size); the rank of (pp_rank, tp_rank) is `pp_rank * tp_size + tp_rank`."""
        return self.tp_size, self.pp_size

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors of all ranks."""
        return sum(tensor.num_bytes for rank in self.ranks for tensor in rank.values())


def rank_file(rank: int) -> str:
    """Name of a rank's weight file."""
    return f"rank{rank}.safetensors"


def open_trtllm_checkpoint(folder: Path) -> TrtllmCheckpoint:
    """Open a checkpoint folder, headers only.

    Raises VerificationError where config.json lacks a required key, its mapping is not
    tp_size * pp_size * cp_size ranks, or the rank files are not exactly those of the ranks.
    """
    try:
        config = read_object(folder / CONFIG_NAME, CONFIG_NAME)
    except (FileNotFoundError, NotADirectoryError):
        raise VerificationError(
            f"`{folder}` is not a TensorRT-LLM checkpoint: no `{CONFIG_NAME}`"
        ) from None
    except OSError as error:
        raise file_error(error, folder / CONFIG_NAME, "cannot be read") from None
    absent = [key for key in _REQUIRED if config.get(key) is None]
    if absent:
        raise VerificationError(
            f"`{folder / CONFIG_NAME}` is not of a TensorRT-LLM checkpoint: "
            f"no {', '.join(f'`{key}`' for key in absent)}"
        )
    world_size = _world_size(config.setdefault("mapping", {}))
    _check_rank_files(folder, world_size)
    files = [rank_file(rank) for rank in range(world_size)]
    return TrtllmCheckpoint(
        folder, config, tuple(read_header(folder / file, file) for file in files)
    )


def _world_size(mapping: Json) -> int:
    """Number of rank files: those of a (pp, tp) rank, which its cp ranks share."""
    sizes = ("world_size", "tp_size", "pp_size", "cp_size")
    if not isinstance(mapping, dict) or not all(_is_size(mapping.get(key, 1)) for key in sizes):
        raise VerificationError(f"`mapping` in `{CONFIG_NAME}` is not an object of sizes")
    world_size, tp_size, pp_size, cp_size = (int(mapping.get(key, 1)) for key in sizes)
    if world_size != tp_size * pp_size * cp_size:
        raise VerificationError(
            f"`mapping` in `{CONFIG_NAME}` has world_size {world_size}, tp_size {tp_size}, "
            f"pp_size {pp_size}, cp_size {cp_size}; expected their product"
        )
    return world_size // cp_size


def _is_size(value: Json) -> bool:
    return type(value) is int and value >= 1


def _check_rank_files(folder: Path, world_size: int) -> None:
    pattern = re.compile(r"rank\d+\.safetensors")
    found = {path.name for path in folder.iterdir() if pattern.fullmatch(path.name)}
    expected = {rank_file(rank) for rank in range(world_size)} if world_size < 2**16 else set()
    facts = [f"`{name}` is missing" for name in sorted(expected - found)]
    facts += [f"`{name}` is not a rank of {world_size}" for name in sorted(found - expected)]
    if facts:
        raise VerificationError(
            f"the rank files of `{folder}` do not fit its `{CONFIG_NAME}`", facts=listed(facts)
        )
