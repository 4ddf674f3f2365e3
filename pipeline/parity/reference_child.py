"""The child process that runs transformers: `python -m pipeline.parity.reference_child JOB.json`.

It talks to its parent by JSON lines on stdout (see `engines/child_process`) and writes the logits
of each sequence in its working folder.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

from pipeline.artifact import Json
from pipeline.engines.child_setup import die_with, tell, tell_error
from pipeline.errors import PipelineError, ResourceError, ToolFailed
from pipeline.parity.reference import loading_faults, logits_name
from pipeline.parity.reference_repairs import repair_config, repair_model
from pipeline.system.refusals import error_number, explain

PER_LAYER_KEYS = ("layer_types", "mlp_layer_types", "no_rope_layers")
"""Lists of transformers' configs that have an item for each layer (5.24, `configuration_utils`)."""

_HINT = "set `verify.logits: false` if this version of transformers cannot run the model"


def main(job_path: str) -> int:
    """Carry out one job; exit code 1 after an error event."""
    job = json.loads(Path(job_path).read_bytes())
    die_with(job["parent"])
    if job["has_code"]:
        # Where transformers puts the code before it imports it; read at import.
        os.environ["HF_MODULES_CACHE"] = str(Path.cwd() / "modules")
    try:
        executed_by = _compute(job)
    except PipelineError as error:
        tell_error(error)
        return 1
    tell(event="result", executed_by=executed_by)
    return 0


def _compute(job: dict[str, Any]) -> dict[str, Json]:
    """Write the logits of every sequence; what computed them."""
    import numpy as np
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model, info = _load(job)
        with torch.inference_mode():
            for number, tokens in enumerate(job["sequences"]):
                logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
                np.save(logits_name(number), logits.float().numpy())
    except Exception as error:  # noqa: BLE001 - torch and transformers raise whatever they like
        raise _failure(error) from None
    faults = list(loading_faults(info, job["layers"], job["dropped"]))
    if faults:
        raise ToolFailed(
            f"transformers {transformers.__version__} does not take the source for what it is",
            facts=faults,
            hint=_HINT,
        )
    return {
        "backend": "transformers",
        "version": transformers.__version__,
        "torch": torch.__version__,
        "class": type(model).__name__,
        "attention": model.config._attn_implementation,
        "dtype": "float32",
        "device": "cpu",
    }


def _load(job: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The model of the first layers, and what loading it found.

    Weights are cast as they are read: a model in memory that is cast as a whole would have its
    rotary frequencies rounded too.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    # The one place where code of a source is executed: the recipe names its commit and digests,
    # and nothing else is in the folder (`sources/remote_code.py`).
    trusted: bool = job["has_code"]
    config = AutoConfig.from_pretrained(
        job["source"], trust_remote_code=trusted, local_files_only=True
    )
    if config.num_hidden_layers != job["of_layers"]:
        raise ToolFailed(
            f"transformers reads {config.num_hidden_layers} layers in `config.json`, conversion "
            f"{job['of_layers']}",
            hint=_HINT,
        )
    for key in PER_LAYER_KEYS:
        items = getattr(config, key, None)
        if isinstance(items, list) and job["layers"] < job["of_layers"]:
            setattr(config, key, items[: job["layers"]])
    config.num_hidden_layers = job["layers"]
    repair_config(config, Path(job["source"]))
    model, info = AutoModelForCausalLM.from_pretrained(
        job["source"],
        config=config,
        dtype=torch.float32,
        attn_implementation=_attention(config),
        output_loading_info=True,
        trust_remote_code=trusted,
        use_safetensors=True,
        local_files_only=True,
    )
    repair_model(model)
    return model.eval(), info


def _attention(config: Any) -> str:
    """How transformers computes attention: eager, its plainest.

    But Falcon with ALiBi: there, eager attention adds ALiBi to scores whose mask has it already
    (transformers 5.24, `modeling_falcon.py`), so that no Falcon of that kind is computed rightly.
    """
    return "sdpa" if config.model_type == "falcon" and config.alibi else "eager"


def _failure(error: Exception) -> PipelineError:
    """What torch or transformers raised, as an error of ours."""
    if isinstance(error, PipelineError):
        return error
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    explained = explain(error, "transformers", Path.cwd())
    if isinstance(error, MemoryError) or error_number(error) == errno.ENOMEM:
        return ResourceError(
            "transformers ran out of memory",
            facts=explained.facts if explained else (),
            hint="use a machine with more memory, or set `verify.layers` to fewer layers",
        )
    if isinstance(explained, ResourceError):
        return explained
    return ToolFailed(
        f"transformers cannot run the source: {type(error).__name__}: {lines[0]}",
        facts=lines[1:],
        hint=_HINT,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
