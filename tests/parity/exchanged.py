"""Parts that are put into transformers' modules, where an architecture of remote code differs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Tensors = Mapping[str, Any]
Layer = Callable[[Any], Any]


def plain(model: Any) -> Callable[[tuple[int, ...]], Any]:
    """Logits of a causal model as it is, `[tokens, vocab_size]`."""
    import torch

    def logits(token_ids: tuple[int, ...]) -> Any:
        return model(torch.tensor([token_ids]), use_cache=False).logits[0]

    return logits


def with_alibi(model: Any, heads: int) -> Callable[[tuple[int, ...]], Any]:
    """Logits of a causal model whose attention scores get a slope for each head.

    Transformers adds a mask of four dims to the scores as it is.
    """
    import torch

    slopes = torch.tensor(alibi_slopes(heads))[:, None, None]

    def logits(token_ids: tuple[int, ...]) -> Any:
        place = torch.arange(len(token_ids))
        distance = (place[None, :] - place[:, None]).float()
        mask = (slopes * distance).masked_fill(distance > 0, torch.finfo(torch.float32).min)
        ids = torch.tensor([token_ids])
        return model(ids, attention_mask=mask[None], use_cache=False).logits[0]

    return logits


def alibi_slopes(heads: int) -> list[float]:
    """Slopes of ALiBi (Press et al. 2022, section 3): a geometric series for powers of two.

    For other numbers of heads, its authors add every second one of the next longer series.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (number + 1) / power) for number in range(power)]
    if power == heads:
        return slopes
    longer = alibi_slopes(2 * power)
    return slopes + longer[0::2][: heads - power]


def without_rotary(model: Any) -> None:
    """Let a model of the LLaMA class rotate nothing: cosine one, sine zero."""
    import torch

    def still(x: Any, position_ids: Any) -> tuple[Any, Any]:
        width = model.config.head_dim
        shape = (*position_ids.shape, width)
        return torch.ones(shape), torch.zeros(shape)

    model.model.rotary_emb.forward = still


def linear(weight: Any, bias: Any = None) -> Layer:
    """A projection `[out, in]`."""
    from torch.nn.functional import linear as project

    return lambda x: project(x, weight, bias)


def gated(tensors: Tensors, prefix: str) -> Layer:
    """`down(silu(gate(x)) * up(x))`, without biases."""
    from torch.nn.functional import silu

    gate, up, down = (
        linear(tensors[f"{prefix}{name}_proj.weight"]) for name in ("gate", "up", "down")
    )
    return lambda x: down(silu(gate(x)) * up(x))


def repeated(weight: Any, heads: int, width: int) -> Any:
    """Key or value heads, each repeated for its group of query heads, `[heads * width, hidden]`."""
    split = weight.reshape(-1, width, *weight.shape[1:])
    return split.repeat_interleave(heads // split.shape[0], dim=0).flatten(0, 1)


def read_tensors(folder: Path) -> dict[str, Any]:
    """All tensors of a folder in float32, without the buffers.

    Frequencies and slopes are left out: published checkpoints store what the formulas give, the
    fixtures made-up values.
    """
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    buffers = (".inv_freq", ".slopes")
    return {name: each.float() for name, each in found.items() if not name.endswith(buffers)}


def build(stem: str, config: Mapping[str, Any], tensors: Tensors, missing: str = "-") -> Any:
    """A transformers model in float32 with these weights.

    Args:
        stem: Class name without `Config`, `ForCausalLM` or `LMHeadModel`.
        missing: Part of the names of parameters whose modules are exchanged after this.
    """
    import transformers

    settings = getattr(transformers, f"{stem}Config")(**config, attn_implementation="eager")
    head = "LMHeadModel" if stem == "GPT2" else "ForCausalLM"
    model = getattr(transformers, f"{stem}{head}")(settings).float().eval()
    lost, unknown = model.load_state_dict(dict(tensors), strict=False)
    tied = ["lm_head.weight"] if settings.tie_word_embeddings else []
    lost = [name for name in lost if name not in tied and missing not in name]
    if lost or unknown:
        raise ValueError(f"missing {lost}, unknown {unknown}")
    return model
