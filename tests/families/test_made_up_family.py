"""The family of CONTRIBUTING.md is whole: it converts a checkpoint of its made-up architecture."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import RecipeError
from pipeline.families import Family
from pipeline.progress import Silent
from pipeline.weights.roundtrip import compare
from tests import tiny
from tests.command import ROOT
from tests.weights.converting import convert, plan, read_ranks

CONFIG: dict[str, Any] = {
    "architectures": ["PelicanForCausalLM"],
    "model_type": "pelican",
    "vocab_size": 113,
    "hidden_size": 48,
    "intermediate_size": 72,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "kv_heads": 2,
    "max_position_embeddings": 64,
    "rope_theta": 10000.0,
    "plumage": "white",
    "torch_dtype": "bfloat16",
}
SHAPES = {
    "norm_1.weight": (48,),
    "norm_2.weight": (48,),
    "attn.qkv.weight": (80, 48),
    "attn.out.weight": (48, 48),
    "mlp.gate_up.weight": (144, 48),
    "mlp.down.weight": (48, 72),
}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """The code block of CONTRIBUTING.md, as a module of its own."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) < 80
    path = tmp_path_factory.mktemp("family") / "pelican.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location("pelican", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert isinstance(module.FAMILY, Family)
    return module.FAMILY


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    shapes = {"model.embed.weight": (113, 48), "model.norm.weight": (48,)}
    for layer in range(2):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in SHAPES.items()}
    shapes["lm_head.weight"] = (113, 48)
    return {
        name: tiny.values(number, shape, "bfloat16")
        for number, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.parametrize(("tp_size", "pp_size"), [(1, 1), (2, 2), (6, 1)])
def test_it_converts(family: Family, tp_size: int, pp_size: int, tmp_path: Path) -> None:
    source = arrays()
    folder = tiny.write_checkpoint(tmp_path / "source", CONFIG, source)
    made = plan(folder, tp_size, pp_size, family=family)
    out = convert(made, folder, tmp_path / "out")
    record = compare(made, folder, out, Silent())
    assert record["changed_tensors"] == 5
    rank = read_ranks(out)[0]
    norm = source["model.layers.0.norm_1.weight"].astype(np.float32) + np.float32(1)
    assert np.array_equal(
        rank["transformer.layers.0.input_layernorm.weight"], norm.astype("bfloat16")
    )
    gate = source["model.layers.0.mlp.gate_up.weight"][:72]
    assert np.array_equal(rank["transformer.layers.0.mlp.fc.weight"], np.split(gate, tp_size)[0])
    groups = source["model.layers.0.attn.qkv.weight"].reshape(2, 5, 8, 48)
    queries = np.split(groups[:, :3].reshape(48, 48), tp_size)[0]
    assert np.array_equal(
        rank["transformer.layers.0.attention.qkv.weight"][: 48 // tp_size], queries
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [({"beak_scale": 2.0}, "a scaled beak"), ({"wings": 2}, "unknown key `wings`")],
)
def test_it_refuses_what_it_does_not_know(
    family: Family, change: dict[str, Any], told: str, tmp_path: Path
) -> None:
    folder = tiny.write_checkpoint(tmp_path / "source", {**CONFIG, **change}, arrays())
    with pytest.raises(RecipeError, match=told):
        plan(folder, family=family)
