"""Normalisation parts."""

from __future__ import annotations

from pipeline.graph.builder import GraphBuilder
from pipeline.graph.weights import Joined


def rms_norm(g: GraphBuilder, hidden: str, scale: Joined, epsilon: float, name: str) -> str:
    """RMS norm over `hidden_size`, its statistics in fp32 as in transformers and TensorRT-LLM.

    hidden `[batch, seq, hidden_size]`, scale `[hidden_size]`.
    """
    return g.node(
        "RMSNormalization", [hidden, g.weight(scale)], name, axis=-1, epsilon=epsilon, stash_type=1
    )
