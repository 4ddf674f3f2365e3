"""Makes the fixtures in tests/fixtures/: tiny checkpoints of real transformers classes.

    python -m tests.parity.make_fixtures

Needs the extra `verify` (torch). Weights are random by a fixed seed, norms and biases too: those
start at one and zero, which would hide a fault in their places. Every fixture also has logits for
one prompt, computed by transformers in float32 from the weights as they were saved.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parent.parent / "fixtures"
PROMPT = [1, 17, 42, 5, 96, 3, 64, 100]

SIZES: dict[str, Any] = {
    "vocab_size": 113,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("Llama", "bfloat16", {}),
    "llama-tied": ("Llama", "bfloat16", {"tie_word_embeddings": True}),
    "llama-biased": (
        "Llama",
        "float32",
        {"attention_bias": True, "mlp_bias": True, "num_hidden_layers": 2},
    ),
    "llama3-rope": ("Llama", "bfloat16", {"rope_parameters": LLAMA3}),
    "llama-yarn": ("Llama", "float16", {"rope_parameters": YARN, "num_key_value_heads": 6}),
    "llama-linear": (
        "Llama",
        "bfloat16",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
    ),
    "llama-dynamic": (
        "Llama",
        "bfloat16",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
    ),
    "mistral": ("Mistral", "bfloat16", {"sliding_window": None}),
    "mistral-window": ("Mistral", "bfloat16", {"sliding_window": 32, "hidden_act": "gelu"}),
}
# These also have their config.json as transformers 4 would have written it.
SPELLED_AS_4 = ("llama3-rope", "mistral")


def main() -> None:
    """Write every fixture anew."""
    for name, (kind, dtype, changes) in KINDS.items():
        make(FIXTURES / name, kind, dtype, changes)
    for name in SPELLED_AS_4:
        spell_as_4(FIXTURES / name)


def make(folder: Path, kind: str, dtype: str, changes: dict[str, Any]) -> None:
    """One model of random weights, saved by transformers in two weight files."""
    import torch
    import transformers

    torch.manual_seed(20261122)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **changes})
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            offset = 1.0 if "norm" in name else 0.0
            parameter.copy_(offset + 0.3 * torch.randn(parameter.shape))
    shutil.rmtree(folder, ignore_errors=True)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size="30KB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    reread = type(model).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        logits = reread(torch.tensor([PROMPT])).logits[0, -1]
    record = {"prompt": PROMPT, "logits": [round(value, 5) for value in logits.tolist()]}
    (folder / "expected.json").write_text(json.dumps(record) + "\n", encoding="utf-8")


def spell_as_4(folder: Path) -> None:
    """Write `config-v4.json`: the config with `rope_theta`, `rope_scaling`, `torch_dtype`."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.57.3"
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / "config-v4.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
