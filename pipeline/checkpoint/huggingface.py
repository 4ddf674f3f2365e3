"""A Hugging Face checkpoint as it lies there: config.json and safetensors headers; no weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact import Json
from pipeline.checkpoint.safetensors_file import TensorInfo, name_fault, read_header
from pipeline.checkpoint.strict_json import (
    CONFIG_LIMITS,
    INDEX_LIMITS,
    Limits,
    listed,
    parse_object,
    printable,
)
from pipeline.errors import VerificationError
from pipeline.files.regular import read_small
from pipeline.system.refusals import file_error

CONFIG_NAME = "config.json"
INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"

MAX_INDEX_FILES = 10_000
"""Every one takes a request; the largest known model has some 200."""


@dataclass(frozen=True)
class SourceCheckpoint:
    """Read-only view of a source checkpoint. `tensors` are sorted by weight file and offset."""

    config: Mapping[str, Json]
    tensors: Mapping[str, TensorInfo]
    weight_files: tuple[str, ...]

    @property
    def architecture(self) -> str:
        """The one entry of config.json's `architectures`; VerificationError if there is none."""
        names = self.config.get("architectures")
        if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
            raise VerificationError(
                f"`{CONFIG_NAME}` does not name one architecture: `architectures` is "
                f"`{printable(str(names))}`"
            )
        return names[0]

    @property
    def weight_bytes(self) -> int:
        """Sum of the tensors' bytes."""
        return sum(tensor.num_bytes for tensor in self.tensors.values())


def assemble(
    config: bytes, index: bytes | None, headers: Mapping[str, Mapping[str, TensorInfo]]
) -> SourceCheckpoint:
    """Put together what was read: config.json, the index (if any) and a header per weight file.

    Raises VerificationError with every name at fault: a tensor that two files hold, or an index
    that disagrees with the headers (tensors missing, unlisted, or in another file).
    """
    if not headers:
        raise VerificationError(
            "the source has no safetensors weight file",
            hint="pickle files (`.bin`, `.pt`, `.pth`) are never read; convert them to safetensors",
        )
    faults: list[str] = []
    tensors: dict[str, TensorInfo] = {}
    for file in sorted(headers):
        for name, tensor in headers[file].items():
            first = tensors.setdefault(name, tensor)
            if first is not tensor:
                faults.append(f"`{name}` is in `{first.file}` and in `{file}`")
    if faults:
        raise VerificationError("tensors are in two weight files", facts=listed(faults))
    if index is not None:
        _check_index(parse_index(index), tensors)
    return SourceCheckpoint(parse_object(config, CONFIG_NAME), tensors, tuple(sorted(headers)))


def parse_index(data: bytes) -> dict[str, str]:
    """The `weight_map` of an index: tensor name -> weight file, names checked."""
    weight_map = parse_object(data, INDEX_NAME, INDEX_LIMITS).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise VerificationError(f"`{INDEX_NAME}` has no `weight_map` of tensors to weight files")
    faults = []
    for name, file in weight_map.items():
        if not isinstance(file, str):
            faults.append(f"`{printable(name)}`: its weight file is not a text")
            continue
        reason = name_fault(name) or name_fault(file) or _file_fault(file)
        if reason:
            faults.append(f"`{printable(name)}` in `{printable(file)}`: {reason}")
    if faults:
        raise VerificationError(f"`{INDEX_NAME}` has bad names", facts=listed(faults))
    num_files = len(set(weight_map.values()))
    if num_files > MAX_INDEX_FILES:
        raise VerificationError(
            f"`{INDEX_NAME}` names {num_files} weight files, more than {MAX_INDEX_FILES}"
        )
    return weight_map


def open_source_checkpoint(folder: Path) -> SourceCheckpoint:
    """Open a local source checkpoint: the files its index names, else its safetensors files."""
    config = _read(folder / CONFIG_NAME)
    has_index = (folder / INDEX_NAME).exists()
    index = _read(folder / INDEX_NAME, INDEX_LIMITS) if has_index else None
    if index is not None:
        files = sorted(set(parse_index(index).values()))
    elif (folder / SINGLE_NAME).is_file():
        files = [SINGLE_NAME]
    else:
        files = sorted(path.name for path in folder.glob("*.safetensors"))
        _refuse_names(files)
    return assemble(config, index, {file: read_header(folder / file, file) for file in files})


def _check_index(weight_map: Mapping[str, str], tensors: Mapping[str, TensorInfo]) -> None:
    missing = sorted(weight_map.keys() - tensors.keys())
    extra = sorted(tensors.keys() - weight_map.keys())
    both = sorted(weight_map.keys() & tensors.keys())
    moved = [name for name in both if weight_map[name] != tensors[name].file]
    if not (missing or extra or moved):
        return
    facts = [f"`{name}` is not in `{weight_map[name]}`" for name in missing]
    facts += [f"`{name}` of `{tensors[name].file}` is not in the index" for name in extra]
    facts += [f"`{n}` is in `{tensors[n].file}`, not in `{weight_map[n]}`" for n in moved]
    raise VerificationError(
        f"`{INDEX_NAME}` disagrees with its weight files: {len(missing)} missing, {len(extra)} "
        f"unlisted, {len(moved)} misplaced",
        facts=listed(facts),
        hint="fetch the checkpoint again; its files are of different versions, or incomplete",
    )


def _refuse_names(files: Sequence[str]) -> None:
    """Names from a folder listing are as strict as those of an index."""
    faults = [(file, name_fault(file) or _file_fault(file)) for file in files]
    told = [f"`{printable(file)}`: {reason}" for file, reason in faults if reason]
    if told:
        raise VerificationError("the source has bad names of weight files", facts=listed(told))


def _file_fault(file: str) -> str | None:
    if "/" in file or "\\" in file or file.startswith("."):
        return "a weight file lies beside its index"
    # Letters that look like others would make two files look like one.
    if not file.isascii():
        return "the name of a weight file is plain ASCII"
    return None if file.endswith(".safetensors") else "it is not a safetensors file"


def _read(path: Path, limits: Limits = CONFIG_LIMITS) -> bytes:
    try:
        return read_small(path, limits.max_bytes, path.name)
    except (FileNotFoundError, NotADirectoryError):
        raise VerificationError(f"the source checkpoint has no `{path.name}`") from None
    except OSError as error:
        raise file_error(error, path, "cannot be read") from None
