"""Host memory that the comparison of logits takes, from headers alone."""

from __future__ import annotations

from pipeline.checkpoint.safetensors_file import ITEM_BYTES
from pipeline.parity.sequences import DEFAULT_TEXT
from pipeline.recipe.verify_section import Verify
from pipeline.weights.layout import ConversionPlan

BASE_BYTES = 600 << 20
"""Interpreter, and torch or ONNX Runtime."""

BYTES_PER_WEIGHT = 7
"""transformers, in a process of its own: a float32 weight beside its mapped file (measured: 6.5
bytes at 504 M weights of bfloat16). ONNX Runtime, which comes after it, takes 4.2 (357 M)."""

BYTES_PER_LOGIT = 20
"""Of every logit of the batch, padding included: both models', copies while pieces are joined, and
float64 while a sequence is compared."""


def logits_memory(conversion: ConversionPlan, num_layers: int, verify: Verify) -> int:
    """Bytes for the first `num_layers` layers, all that is around them, and the logits."""
    num_sequences = verify.prompts + len(verify.texts or (DEFAULT_TEXT,))
    num_logits = num_sequences * verify.tokens * conversion.config["vocab_size"]
    weights = _weight_bytes(conversion, num_layers)
    return BASE_BYTES + weights + int(num_logits) * BYTES_PER_LOGIT


def _weight_bytes(conversion: ConversionPlan, num_layers: int) -> int:
    num_weights = sum(
        info.num_bytes // ITEM_BYTES[info.dtype]
        for making in conversion.coverage.makings
        if making.layer is None or making.layer < num_layers
        for info in making.sources
    )
    return num_weights * BYTES_PER_WEIGHT


def most_layers(conversion: ConversionPlan, verify: Verify, available_bytes: int) -> int:
    """The most layers for which this is enough memory; 0 where it is not even for one."""
    total = conversion.config["num_hidden_layers"]
    fitting = 0
    while fitting < total and logits_memory(conversion, fitting + 1, verify) <= available_bytes:
        fitting += 1
    return fitting
