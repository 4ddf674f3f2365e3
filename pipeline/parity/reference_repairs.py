"""What transformers passes over in a published `config.json`, put right in the reference.

Each is a known fault of transformers 5.24, where the code published with the model, and earlier
releases of transformers, follow the config. Without these a right conversion would be refused.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifact import Json


def repair_config(config: Any, source: Path) -> None:
    """Before loading: the rotary base of DBRX, which is published inside `attn_config`.

    Without `rope_parameters` transformers takes its default base (5.24, `configuration_dbrx.py`).
    """
    if config.model_type != "dbrx":
        return
    published: Mapping[str, Json] = json.loads((source / "config.json").read_bytes())
    base = (published.get("attn_config") or {}).get("rope_theta")
    if base is not None and published.get("rope_parameters") is None:
        config.rope_parameters = {"rope_type": "default", "rope_theta": base}


def repair_model(model: Any) -> None:
    """After loading: the slopes of MPT, and Phi-3.5-MoE beyond its trained length.

    transformers makes MPT's slopes for an `alibi_bias_max` of 8, whatever the config says (5.24,
    `modeling_mpt.py`, MptModel.forward; MPT-7B-StoryWriter has 16). Of PhiMoE's long rope it
    chooses the frequencies by length, but then makes the short ones anew (5.24,
    `modeling_phimoe.py`, PhimoeRotaryEmbedding.forward).
    """
    config = model.config
    if config.model_type == "mpt":
        make = model.transformer.build_mpt_alibi_tensor
        largest = config.attn_config.alibi_bias_max
        model.transformer.build_mpt_alibi_tensor = functools.partial(make, alibi_bias_max=largest)
    if config.model_type == "phimoe" and model.model.rotary_emb.rope_type == "longrope":
        rotary = model.model.rotary_emb
        rotary.rope_init_fn = lambda _config: (rotary.inv_freq, None)  # the config has the mscales
