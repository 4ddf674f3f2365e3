"""A build as TensorRT-LLM is asked for it: every option resolved, as a command line and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact import Json
from pipeline.recipe.engine_rules import default_num_tokens
from pipeline.recipe.schema import EngineSettings
from pipeline.trtllm.options import options
from pipeline.weights.parallel import parallelism_of

PROGRAM = "trtllm-build"
SPECULATIVE_MODES: Mapping[str | None, int] = {
    None: 1,
    "draft_tokens_external": 2,
    "medusa": 4,
    "lookahead_decoding": 8,
    "explicit_draft_tokens": 16,
    "eagle": 32,
}
"""SpeculativeDecodingMode is an IntFlag, and JSON has its number (TensorRT-LLM 1.x
`models/modeling_utils.py`)."""

LORA = ("lora_ckpt_source", "max_lora_rank", "lora_target_modules")
"""Options of the command line that become BuildConfig's `lora_config` where there is a LoRA plugin;
else its default stands (TensorRT-LLM 1.2 `commands/build.py`, `build_model`; `lora_helper.py`)."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What is asked of TensorRT-LLM. `options`: every option that has a flag, by name, resolved.

    Paths are not in it, `argv` takes them. No `auto` is left in it: what is asked is what the built
    engine's own config.json must say.
    """

    options: Mapping[str, Json]
    world_size: int

    def argv(
        self,
        checkpoint_dir: Path,
        output_dir: Path,
        *,
        input_timing_cache: Path | None,
        output_timing_cache: Path,
    ) -> list[str]:
        """The command line of `trtllm-build`: every plugin and every limit by name.

        Source: TensorRT-LLM 1.2 `commands/build.py`, `plugin/plugin.py`.
        """
        paths: dict[str, Json] = {
            "checkpoint_dir": checkpoint_dir,
            "output_dir": output_dir,
            "input_timing_cache": input_timing_cache,
            "output_timing_cache": output_timing_cache,
        }
        found = [PROGRAM]
        for name, value in {**paths, **self.options}.items():
            found += options()[name].arguments(value)
        return found

    def build_config(self) -> dict[str, Json]:
        """The same as the JSON of `--build_config`: BuildConfig's fields, PluginConfig's inside."""
        parts: dict[str, dict[str, Json]] = {"build": {}, "plugin": {}}
        for name, value in self.options.items():
            part = options()[name].part
            if part != "command":
                parts[part][name] = value
        mode = parts["build"].get("speculative_decoding_mode")
        found = {**parts["build"], "speculative_decoding_mode": SPECULATIVE_MODES[mode]}
        if self.options.get("lora_plugin") is not None:
            found["lora_config"] = {n: self.options[n] for n in LORA if n in self.options}
        if self.options.get("fast_build"):
            parts["plugin"]["manage_weights"] = True
        return {**found, "plugin_config": parts["plugin"]}


def build_request(settings: EngineSettings, config: Mapping[str, Json]) -> BuildRequest:
    """Resolve the settings for a checkpoint's config.json (TensorRT-LLM format)."""
    dtype, world_size = config["dtype"], parallelism_of(config).world_size
    own = {
        name: getattr(settings, name)
        for name, option in options().items()
        if option.flag is not None and name in type(settings).model_fields
    }
    resolved = {
        name: dtype if value == "auto" and options()[name].form == "dtype" else value
        for name, value in own.items()
    }
    resolved["context_fmha"] = settings.attention.context_fmha
    resolved["max_num_tokens"] = settings.max_num_tokens or default_num_tokens(settings)
    if settings.opt_num_tokens is None and not settings.multiple_profiles:
        sequences = settings.max_batch_size * settings.max_beam_width
        resolved["opt_num_tokens"] = min(sequences, resolved["max_num_tokens"])
    resolved["lora_target_modules"] = list(settings.lora_target_modules)
    resolved["log_level"] = "info"
    # No family here has recurrent layers: TensorRT-LLM would turn it off by itself.
    resolved["paged_state"] = False
    if world_size == 1:
        # There is nobody to talk to: TensorRT-LLM would turn it off by itself.
        resolved["nccl_plugin"] = None
    order = [name for name in options() if name in resolved]
    return BuildRequest({name: resolved[name] for name in order}, world_size)
