"""What TensorRT's ONNX parser takes and what it makes of it: facts as data.

Found by builds with TensorRT for RTX 1.7.1 (`SOURCE` of tensorrt_support); tests build them again.
Of attention that is not an operator of its own, the engine tells whether it was fused: it names a
kernel `_gemm_mha_v...`, or none. `tensorrt` may differ in what is only a risk here.
"""

from __future__ import annotations

MIN_OPSET = 7
"""The parser warns below: "at least opset 7"."""

MAX_OPSET = 25
"""The last opset that NVIDIA's guide names (TensorRT 11.5, ONNX opset guide)."""

MIN_HEAD_SIZE = 9
"""No fused kernel up to 8; sizes between the multiples of 8 are padded by the builder."""

CONTRIB_DOMAIN = "com.microsoft"

IMPORTED_CONTRIB_OPS = frozenset(
    {
        "Attention",
        "CausalConvWithState",
        "DequantizeLinear",
        "GatherND",
        "Gelu",
        "GridSample",
        "GroupQueryAttention",
        "LinearAttention",
        "MatMulNBits",
        "MultiHeadAttention",
        "Pad",
        "QMoE",
        "QuantizeLinear",
        "Range",
        "RotaryEmbedding",
        "SkipSimplifiedLayerNormalization",
        "Trilu",
    }
)
"""ONNX Runtime's operators (1.32) whose names the parser knows, whatever their domain."""

NOT_IMPORTED_OPS = frozenset(
    {
        "AffineGrid",
        "Bernoulli",
        "BitCast",
        "BitShift",
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseXor",
        "CenterCropPad",
        "Col2Im",
        "Compress",
        "ConcatFromSequence",
        "ConvInteger",
        "CumProd",
        "DFT",
        "DeformConv",
        "Det",
        "DynamicQuantizeLinear",
        "ImageDecoder",
        "MatMulInteger",
        "MaxRoiPool",
        "MaxUnpool",
        "MelWeightMatrix",
        "Multinomial",
        "NegativeLogLikelihoodLoss",
        "Optional",
        "OptionalGetElement",
        "OptionalHasElement",
        "QLinearConv",
        "QLinearMatMul",
        "RegexFullMatch",
        "SequenceAt",
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceErase",
        "SequenceInsert",
        "SequenceLength",
        "SequenceMap",
        "SoftmaxCrossEntropyLoss",
        "SplitToSequence",
        "StringConcat",
        "StringNormalizer",
        "StringSplit",
        "SwiGLU",
        "TfIdfVectorizer",
        "Unique",
    }
)
"""Standard operators (ONNX 1.23) that the parser does not know."""


def is_imported(domain: str, op: str) -> bool:
    """Whether the parser knows an operator; `domain` is empty for the standard one."""
    if not domain:
        return op not in NOT_IMPORTED_OPS
    return domain == CONTRIB_DOMAIN and op in IMPORTED_CONTRIB_OPS
