"""Which drift stops a build: that of options, classes and keys which the build itself uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.artifact import Json
from pipeline.doctor.drift import Difference
from pipeline.errors import MachineError, Problem
from pipeline.trtllm.options import Option, options

_HINT = (
    "`trtllm-pack doctor` shows every difference; use the release of TensorRT-LLM 1.2 whose facts "
    "are known (1.2.1), or leave the option out"
)
_OPTION_SECTIONS = ("build_config", "plugin_config", "trtllm_build")
_CHECKPOINT_SECTIONS = ("architectures", "mapping", "quant_config", "quant_algos")


def drift_problems(
    drift: Iterable[Difference],
    request_options: Mapping[str, Json],
    config: Mapping[str, Json] | None = None,
) -> list[Problem]:
    """The differences that matter to one build, as problems of the stage `build`.

    `request_options`: `BuildRequest.options`. `config`: the checkpoint's config.json, which is
    held against the class map, Mapping and QuantConfig; None leaves these out. A changed default
    stops a build that leaves the option to it: what the command line writes does not follow it.
    """
    return [
        Problem("build", f"the installed TensorRT-LLM drifted: {each.message}", _HINT, MachineError)
        for each in drift
        if each.severity == "matters"
        and (_hits_options(each, request_options) or _hits_checkpoint(each, config or {}))
    ]


def _hits_options(difference: Difference, asked: Mapping[str, Json]) -> bool:
    if difference.section not in _OPTION_SECTIONS:
        return False
    option = _option(difference)
    if option is None or option.name not in asked:
        return False
    value = asked[option.name]
    is_written = option.flag is not None and bool(option.arguments(value))
    if difference.aspect == "default":
        return not is_written
    if difference.aspect == "values":
        asked_values = value if isinstance(value, list) else [_as_written(option, value)]
        return is_written and any(each in difference.expected for each in asked_values)
    if difference.aspect == "gone" and difference.section == "trtllm_build":
        # An alias that is gone takes nothing from a command line that has the flag's own name.
        return is_written and difference.name == option.flag
    return is_written


def _option(difference: Difference) -> Option | None:
    if difference.section != "trtllm_build":
        return options().get(difference.name)
    return next((each for each in options().values() if each.flag == difference.name), None)


def _as_written(option: Option, value: Json) -> Json:
    """A value as the help text of `trtllm-build` or as a field's type lists it."""
    return "disable" if option.form == "dtype" and value is None else value


def _hits_checkpoint(difference: Difference, config: Mapping[str, Json]) -> bool:
    if difference.section not in _CHECKPOINT_SECTIONS:
        return False
    if difference.section == "architectures":
        return difference.name == config.get("architecture")
    quantization = config.get("quantization") or {}
    if difference.section == "quant_algos":
        used = {quantization.get("quant_algo"), quantization.get("kv_cache_quant_algo")}
        return difference.name in used
    block = quantization if difference.section == "quant_config" else config.get("mapping") or {}
    return difference.name in block
