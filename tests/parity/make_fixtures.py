"""Makes the fixtures in tests/fixtures/: tiny checkpoints of every supported architecture.

    python -m tests.parity.make_fixtures [NAME ...]

Needs the extra `verify` (torch). Weights are random by a fixed seed, norms and biases too: those
start at one and zero, which would hide a fault in their places.

Where transformers has the class (tables in `fixture_models` and `fixture_models_gpt`), it saves the
checkpoint. Then the folder is made to look like the published ones: names of architectures and
tensors that transformers changes, and `config-v4.json`, the config in the older spelling.
Architectures that come with code of their own are written from tables of names and shapes, those
in the `remote_` modules. What the original models compute from all of them, `references` stores.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from tests.parity.as_published import publish, spell_as_4
from tests.parity.fixture_sizes import Model
from tests.parity.references import FIXTURES, KINDS, write_reference
from tests.parity.remote_baichuan import BAICHUAN
from tests.parity.remote_chatglm import FUSED
from tests.parity.remote_conv1d import CONV1D
from tests.parity.remote_gpt_like import GPT_LIKE as REMOTE_GPT_LIKE
from tests.parity.remote_llama_like import LLAMA_LIKE as REMOTE_LLAMA_LIKE
from tests.parity.remote_models import Remote, write_remote
from tests.parity.remote_moe_nas import LAYERED
from tests.parity.remote_older import OLDER

REMOTE: dict[str, Remote] = (
    REMOTE_LLAMA_LIKE | BAICHUAN | REMOTE_GPT_LIKE | CONV1D | FUSED | LAYERED | OLDER
)
# These have no config in the older spelling: it would only repeat that of `llama3-rope`.
NOT_SPELLED_AS_4 = (
    "llama",
    "llama-tied",
    "llama-biased",
    "llama-yarn",
    "llama-linear",
    "llama-dynamic",
    "mistral-window",
)
# Classes whose norms multiply by 1 + weight, so that their weights lie around zero.
PLUS_ONE = ("Gemma", "Gemma2", "Gemma3", "Nemotron")


def main() -> None:
    """Write the named fixtures anew, or all of them."""
    names = sys.argv[1:] or [*KINDS, *REMOTE]
    for name in names:
        shutil.rmtree(FIXTURES / name, ignore_errors=True)
        if name in REMOTE:
            write_remote(FIXTURES / name, REMOTE[name])
        else:
            make(FIXTURES / name, KINDS[name])
            publish(FIXTURES / name, KINDS[name].architecture)
            if name not in NOT_SPELLED_AS_4:
                spell_as_4(FIXTURES / name)
        write_reference(name)


def make(folder: Path, model: Model) -> None:
    """One model of random weights, saved by transformers in small weight files."""
    import torch

    torch.manual_seed(20261122)
    made = build(model)
    norm = 0.0 if model.stem in PLUS_ONE else 1.0
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            offset = norm if is_norm_weight(name, parameter.ndim) else 0.0
            parameter.copy_(offset + 0.3 * torch.randn(parameter.shape))
    made.to(getattr(torch, model.dtype)).save_pretrained(folder, max_shard_size="30KB")
    (folder / "generation_config.json").unlink(missing_ok=True)


def build(model: Model) -> Any:
    """The model of a fixture, with transformers' own random weights."""
    import transformers

    stem = model.stem
    made_by = getattr(transformers, f"{stem}TextConfig", None) if stem == "Gemma3" else None
    config = (made_by or getattr(transformers, f"{stem}Config"))(**model.config)
    head = "LMHeadModel" if stem == "GPT2" else "ForCausalLM"
    return getattr(transformers, f"{stem}{head}")(config)


def is_norm_weight(name: str, ndim: int) -> bool:
    """Whether a parameter is the scale of a norm: by name, or the only other vector, a bias."""
    return name.endswith("weight") and (ndim == 1 or "norm" in name)


if __name__ == "__main__":
    main()
