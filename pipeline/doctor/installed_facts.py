"""Reads the TensorRT-LLM that is installed, and prints what it is: one JSON document.

    python -m pipeline.doctor.installed_facts

Importing TensorRT-LLM can need the driver, and can print; so it is done here, in a process of its
own. Where one section cannot be read, the reason is told in its place. Sources, all of
TensorRT-LLM 1.2: the places named in `SECTIONS`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.artifact import Json
from pipeline.doctor.fields import fields_of, parameters_of

Reading = Mapping[str, Json]

CANNOT_READ = (ImportError, AttributeError, TypeError, ValueError, RuntimeError, OSError)
"""What importing and looking raise where a release is otherwise than we know, or the driver is
missing. Anything else ends the process, and is told as such."""


def main() -> None:
    """Print the document; whatever else is printed meanwhile goes to stderr."""
    own = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    document = read_installed_package()
    with os.fdopen(own, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(document, sort_keys=True) + "\n")


def read_installed_package() -> dict[str, Json]:
    """`versions`; `sections`, each as in `pipeline.doctor.sections`; `unread`: section -> why."""
    sections: dict[str, Json] = {}
    unread: dict[str, str] = {}
    for name, (module, attribute, read) in SECTIONS.items():
        try:
            described: Any = getattr(import_module(module), attribute)
            sections[name] = read(described)
        except CANNOT_READ as error:
            unread[name] = f"`{module}.{attribute}`: {type(error).__name__}: {error}"
    return {"versions": _versions(), "sections": sections, "unread": unread}


def _class_map(described: Mapping[str, type[Any]]) -> Reading:
    """Architecture -> `class`, the name of the class that it becomes."""
    return {name: {"class": model.__name__} for name, model in described.items()}


def _constructor(described: type[Any]) -> Reading:
    # `Mapping` chooses its class in `__new__`: the signature of the class would be that.
    return parameters_of(described.__init__)


def _members(described: type[Any]) -> Reading:
    """The members of an enumeration of texts."""
    return {str(member.value): {} for member in described}


SECTIONS: Mapping[str, tuple[str, str, Callable[[Any], Reading]]] = {
    "build_config": ("tensorrt_llm.builder", "BuildConfig", fields_of),
    "plugin_config": ("tensorrt_llm.plugin.plugin", "PluginConfig", fields_of),
    "architectures": ("tensorrt_llm.models", "MODEL_MAP", _class_map),
    "checkpoint_config": (
        "tensorrt_llm.models.modeling_utils",
        "PretrainedConfig",
        _constructor,
    ),
    "mapping": ("tensorrt_llm.mapping", "Mapping", _constructor),
    "quant_config": ("tensorrt_llm.models.modeling_utils", "QuantConfig", fields_of),
    "quant_algos": ("tensorrt_llm.quantization.mode", "QuantAlgo", _members),
    "llm_arguments": ("tensorrt_llm.llmapi.llm_args", "TrtLlmArgs", fields_of),
    "kv_cache_config": ("tensorrt_llm.llmapi.llm_args", "KvCacheConfig", fields_of),
    "sampling_params": ("tensorrt_llm.sampling_params", "SamplingParams", fields_of),
}
"""Section -> module, attribute, and how it is read."""


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in ("tensorrt-llm", "tensorrt", "torch", "transformers", "nvidia-modelopt"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
