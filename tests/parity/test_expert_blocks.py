"""The mixtures of experts of transformers, computed by the graph's parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.graph.builder import GraphBuilder
from pipeline.graph.expert_description import Routing
from pipeline.graph.experts import ExpertWeights, SharedWeights, mixture, shared_expert
from tests.graph.part_runs import execute, largest_error, unstacked

pytestmark = pytest.mark.torch

Array = NDArray[Any]
HIDDEN, INNER, EXPERTS, TOP_K = 40, 28, 12, 3
NAMES = {
    "mixtral": ("MixtralSparseMoeBlock", "gate"),
    "qwen2_moe": ("Qwen2MoeSparseMoeBlock", "gate"),
    "qwen3_moe": ("Qwen3MoeSparseMoeBlock", "gate"),
    "deepseek_v2": ("DeepseekV2Moe", "gate"),
    "deepseek_v3": ("DeepseekV3MoE", "gate"),
    "phimoe": ("PhimoeSparseMoeBlock", "router"),
    "granitemoe": ("GraniteMoeMoE", "router"),
}
LIMITED = {"num_groups": 4, "top_groups": 2, "scaling": 2.5}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "mixtral": ("mixtral", {}, {"renormalised": True}),
    "granitemoe": ("granitemoe", {}, {"renormalised": True}),
    "qwen2_moe": ("qwen2_moe", {"norm_topk_prob": False}, {}),
    "qwen3_moe": ("qwen3_moe", {"norm_topk_prob": True}, {"renormalised": True}),
    "deepseek_v2 greedy": ("deepseek_v2", {"topk_method": "greedy"}, {"scaling": 2.5}),
    "deepseek_v2 groups": ("deepseek_v2", {"topk_method": "group_limited_greedy"}, LIMITED),
    "deepseek_v3": (
        "deepseek_v3",
        {"norm_topk_prob": True},
        {"scoring": "sigmoid", "renormalised": True, "group_score": "sum_of_two", **LIMITED},
    ),
    "phimoe": ("phimoe", {"router_jitter_noise": 0.1}, {"scoring": "sparse_mixer", "epsilon": 0.1}),
}


def block(kind: str, options: dict[str, Any]) -> Any:
    """A random block; norms apart from one another, so that a wrong choice shows."""
    import torch
    from transformers import AutoConfig

    torch.manual_seed(3)
    experts = dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), EXPERTS)
    sizes = dict.fromkeys(("intermediate_size", "moe_intermediate_size"), INNER)
    sizes |= {"hidden_size": HIDDEN, "shared_expert_intermediate_size": 20, "n_shared_experts": 2}
    groups = {"n_group": 4, "topk_group": 2, "routed_scaling_factor": 2.5}
    top_k = 2 if kind == "phimoe" else TOP_K
    config = AutoConfig.for_model(kind)
    wanted = experts | sizes | groups | {"num_experts_per_tok": top_k} | options
    for name, value in wanted.items():
        if hasattr(config, name):
            setattr(config, name, value)
    config._experts_implementation = "eager"
    module = __import__(f"transformers.models.{kind}.modeling_{kind}", fromlist=["_"])
    made = getattr(module, NAMES[kind][0])(config).eval().float()
    with torch.no_grad():
        for tensor in (*made.parameters(), *made.buffers()):
            tensor.normal_(0, 0.4)
    return made


def graph(kind: str, way: str, routing: Routing, tensors: dict[str, Array]) -> GraphBuilder:
    """The block's weights in TensorRT-LLM's layout: the half that is activated comes last."""

    def turned(gate: Array, up: Array) -> Array:
        return np.concatenate([up, gate], axis=-2)

    g = GraphBuilder("float32")
    x = g.input("hidden", "float32", ["b", "s", HIDDEN])
    gate, up = np.split(tensors["experts.gate_up_proj"], 2, axis=1)
    fc = g.constant("fc", turned(gate, up))
    proj = g.constant("proj", tensors["experts.down_proj"])
    router = g.constant("router", tensors[f"{NAMES[kind][1]}.weight"])
    bias = tensors.get("gate.e_score_correction_bias")
    fcs: Any = fc if way == "all" else unstacked(g, fc, EXPERTS, "fcs")
    projs: Any = proj if way == "all" else unstacked(g, proj, EXPERTS, "projs")
    correction = None if bias is None else g.constant("bias", bias)
    weights = ExpertWeights(router, fcs, projs, correction_bias=correction)
    out = mixture(g, routing, "silu", weights, x, HIDDEN, "mlp")
    for name in {key.partition(".")[0] for key in tensors if ".up_proj.weight" in key}:
        rows = turned(tensors[f"{name}.gate_proj.weight"], tensors[f"{name}.up_proj.weight"])
        gated = tensors.get("shared_expert_gate.weight")
        shared = SharedWeights(
            g.constant("weight.fc", rows),
            g.constant("weight.proj", tensors[f"{name}.down_proj.weight"]),
            gate=None if gated is None else g.constant("weight.gate", gated),
        )
        out = g.node("Add", [out, shared_expert(g, "silu", shared, x, "shared")], "sum")
    g.output(out, "float32", ["b", "s", HIDDEN])
    return g


@pytest.mark.parametrize("way", ["all", "chosen"])
@pytest.mark.parametrize("case", CASES)
def test_block(case: str, way: str) -> None:
    import torch

    kind, options, numbers = CASES[case]
    made = block(kind, options)
    hidden = torch.randn(3, 7, HIDDEN)
    with torch.no_grad():
        right = made(hidden)
    right = (right[0] if isinstance(right, tuple) else right).numpy()
    tensors = {name: value.numpy() for name, value in made.state_dict().items()}
    routing = Routing(EXPERTS, 2 if kind == "phimoe" else TOP_K, **numbers)
    found = execute(graph(kind, way, routing, tensors), {"hidden": hidden.numpy()})[0]
    assert largest_error(found, right) < 1e-5
