"""Rotary tables against those of transformers' own models, over many random parameters."""

from __future__ import annotations

import random
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.graph.rotary import rotary_tables
from pipeline.graph.rotary_description import Rotary, needs_long, uses_two_tables
from pipeline.graph.rotary_scaling import long_rope, scaled_frequencies

pytestmark = pytest.mark.torch

NUM_DRAWS = 60

LAST_BITS = 4e-7
"""Relative: torch's fp32 powers and cosines are off by a last bit now and then."""


def draw(kind: str, rng: random.Random) -> dict[str, Any]:
    """Random settings of one kind of scaling, in transformers' words."""
    trained = rng.choice([64, 100, 4096, 8192, 32768])
    factor = rng.choice([1.0, 2.0, 4, 8.0, 40.0, rng.uniform(1.1, 50.0)])
    length = {"original_max_position_embeddings": trained}
    match kind:
        case "default":
            return {}
        case "linear" | "dynamic":
            return {"factor": factor}
        case "llama3":
            low = rng.choice([1.0, rng.uniform(0.5, 3.0)])
            high = rng.choice([4.0, low + rng.uniform(0.1, 9.0)])
            return {"factor": factor, "low_freq_factor": low, "high_freq_factor": high, **length}
    options: dict[str, Any] = {"attention_factor": rng.uniform(0.5, 2.0)}
    if kind == "yarn":
        options |= {"beta_fast": rng.choice([32, 16.0, 64.0]), "beta_slow": rng.choice([1, 2.0])}
        options |= {"mscale": rng.choice([1.0, 0.707, 0.0]), "truncate": rng.random() < 0.5}
        options |= {"mscale_all_dim": rng.choice([1.0, 0.707, 0.0])}
    kept = {name: value for name, value in options.items() if rng.random() < 0.4}
    return {"factor": rng.choice([factor, None]), **length, **kept}


def sizes(rng: random.Random) -> dict[str, Any]:
    heads = rng.choice([4, 6])
    head_dim = rng.choice([16, 24, 64, 96, 128])
    part = rng.choice([0.25, 0.5, 0.75, 1.0])
    return {
        "num_attention_heads": heads,
        "hidden_size": heads * head_dim,
        "head_dim": head_dim,
        "max_position_embeddings": rng.choice([128, 4096, 131072]),
        "rope_theta": rng.choice([10000.0, 500000.0, 1e6, rng.uniform(100.0, 2e7)]),
        "partial_rotary_factor": part,
    }


def reference(kind: str, parameters: dict[str, Any], num_tokens: int | None) -> tuple[Any, float]:
    """Frequencies and the factor of cos and sin by transformers' own function."""
    from transformers import PreTrainedConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = PreTrainedConfig()
    for name, value in parameters.items():
        setattr(config, name, value)
    if kind == "default":
        config.head_dim = int(config.head_dim * config.rope_parameters["partial_rotary_factor"])
        inv_freq, factor = LlamaRotaryEmbedding.compute_default_rope_parameters(config)
    else:
        inv_freq, factor = ROPE_INIT_FUNCTIONS[kind](config, seq_len=num_tokens)
    return inv_freq, factor


def case(kind: str, rng: random.Random) -> tuple[Rotary, dict[str, Any]]:
    """The same settings for the tables and for transformers."""
    size, scaling = sizes(rng), draw(kind, rng)
    dim = int(size["head_dim"] * size["partial_rotary_factor"])
    if kind == "longrope":
        scaling["short_factor"] = [rng.uniform(1.0, 4.0) for _ in range(dim // 2)]
        scaling["long_factor"] = [rng.uniform(1.0, 70.0) for _ in range(dim // 2)]
    base, part = size.pop("rope_theta"), size.pop("partial_rotary_factor")
    rope = {"rope_type": kind, "rope_theta": base, "partial_rotary_factor": part, **scaling}
    rotary = Rotary(
        dim=dim,
        base=base,
        interleaved=False,
        max_position_embeddings=size["max_position_embeddings"],
        scaling={"rope_type": kind, **scaling},
    )
    return rotary, {**size, "rope_parameters": rope}


def cos_of(inv_freq: Any, factor: float, num_tokens: int) -> NDArray[np.float32]:
    """As the models work it out."""
    import torch

    positions = torch.arange(num_tokens)[:, None].float()
    result: NDArray[np.float32] = ((positions * inv_freq).cos() * factor).numpy()
    return result


@pytest.mark.parametrize("kind", ["default", "linear", "dynamic", "llama3", "yarn"])
def test_frequencies(kind: str) -> None:
    rng = random.Random(zlib.crc32(kind.encode()))
    for _ in range(NUM_DRAWS):
        rotary, parameters = case(kind, rng)
        inv_freq, factor = reference(kind, parameters, None)
        got, got_factor = scaled_frequencies(rotary)
        np.testing.assert_allclose(got, inv_freq.numpy(), rtol=LAST_BITS, err_msg=str(rotary))
        assert got_factor == pytest.approx(factor, rel=1e-12), rotary
        cos, _ = rotary_tables(rotary, 50)
        expected = cos_of(inv_freq, factor, 50)
        np.testing.assert_allclose(cos, expected, rtol=0, atol=50 * LAST_BITS * factor)


def test_long_rope() -> None:
    rng = random.Random(5)
    num_doubled = 0
    for _ in range(NUM_DRAWS):
        rotary, parameters = case("longrope", rng)
        trained = parameters["rope_parameters"]["original_max_position_embeddings"]
        num_tokens = rng.choice([trained, trained + 1, 90])
        inv_freq, factor = reference("longrope", parameters, num_tokens)
        is_long = needs_long(rotary, num_tokens)
        got, got_factor = long_rope(rotary, is_long=is_long)
        np.testing.assert_allclose(got, inv_freq.numpy(), rtol=LAST_BITS, err_msg=str(rotary))
        assert got_factor == pytest.approx(factor, rel=1e-12), rotary
        cos, _ = rotary_tables(rotary, num_tokens)
        assert len(cos) == num_tokens * (1 + uses_two_tables(rotary, num_tokens))
        rows = cos[num_tokens * is_long :][:50]
        expected = cos_of(inv_freq, factor, 50)
        np.testing.assert_allclose(rows, expected, rtol=0, atol=50 * LAST_BITS * factor)
        num_doubled += is_long
    assert 0 < num_doubled < NUM_DRAWS


SHORT, LONG = (1.0, 1.02, 1.1, 1.3), (1.0, 1.4, 9.0, 40.5)


@pytest.mark.parametrize("num_tokens", [32, 33])
def test_tables_of_phi3(num_tokens: int) -> None:
    from transformers.models.phi3.modeling_phi3 import Phi3Config, Phi3RotaryEmbedding

    rotary = Rotary(8, 10000.0, False, 128, None, LONG, SHORT, 32)
    scaling = {"type": "longrope", "short_factor": [*SHORT], "long_factor": [*LONG]}
    config = Phi3Config(
        hidden_size=48,
        num_attention_heads=6,
        max_position_embeddings=128,
        original_max_position_embeddings=32,
        rope_scaling=scaling,
    )
    check_rows(rotary, Phi3RotaryEmbedding(config), num_tokens)


def test_tables_of_phimoe_within_the_trained_length() -> None:
    """Beyond it transformers keeps the short factors, the model's own code takes the long ones."""
    from transformers.models.phimoe.modeling_phimoe import PhimoeConfig, PhimoeRotaryEmbedding

    rotary = Rotary(8, 10000.0, False, 128, None, LONG, SHORT, 32, 1.25, 1.5)
    scaling = {"rope_type": "longrope", "short_factor": [*SHORT], "long_factor": [*LONG]}
    mscales = {"short_mscale": 1.25, "long_mscale": 1.5, "original_max_position_embeddings": 32}
    config = PhimoeConfig(
        hidden_size=48,
        num_attention_heads=6,
        max_position_embeddings=128,
        rope_parameters={**scaling, **mscales, "rope_theta": 10000.0},
    )
    check_rows(rotary, PhimoeRotaryEmbedding(config), 32)


def check_rows(rotary: Rotary, embedding: Any, num_tokens: int) -> None:
    """Hold all rows of a sequence of `num_tokens` against a model's own rotary module."""
    import torch

    tables = rotary_tables(rotary, num_tokens)
    expected = embedding(torch.zeros(1), torch.arange(num_tokens)[None])
    for got, reference_rows in zip(tables, expected, strict=True):
        rows = reference_rows[0, :, : rotary.dim // 2].numpy()
        np.testing.assert_allclose(got[-num_tokens:], rows, rtol=0, atol=num_tokens * LAST_BITS)
