"""What a rank needs on its GPU beside weights, cache and activations: workspace, buffers, CUDA.

Read: TensorRT-LLM 1.2 `common/attentionOp.cpp`, `batch_manager/runtimeBuffers.cpp`,
`batch_manager/transformerBuffers.cpp`, `runtime/ipcUtils.cpp`, `layers/attention.py`. The decoder's
sources were not at hand: its term is fitted to a log that a user published, see the tests.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.artifact import Json
from pipeline.checkpoint.safetensors_file import ITEM_BYTES
from pipeline.engines.trtllm.memory.terms import Limits, Term
from pipeline.engines.trtllm.memory.weights import kv_heads_by_layer
from pipeline.recipe.schema import EngineSettings
from pipeline.weights.parallel import parallelism_of

MIB = 1 << 20
CUBLAS_WORKSPACE_BYTES = 32 * MIB
"""Of the attention plugin; TensorRT-LLM 1.2, common/cudaUtils.h."""
NCCL_BYTES = 384 * MIB
"""Channels and buffers of the communicators of a rank; inferred, NCCL does not state it."""
CUDA_BYTES = 800 * MIB
"""CUDA context and kernels. In the log of TensorRT-LLM's memory.md (H100), 783 MiB are in use that
no line of it accounts for."""
ALL_REDUCE_BYTES = 64 * MIB
"""Largest buffer of an all-reduce; TensorRT-LLM 1.2, common/customAllReduceUtils.h."""
LAMPORT_TOKENS = 16
CACHED_GENERATION_STEPS = 8
"""Steps whose logits are kept on the GPU; TensorRT-LLM 1.2, batch_manager/runtimeBuffers.cpp."""


def attention_workspace(
    config: Mapping[str, Json], settings: EngineSettings, limits: Limits, fused: bool
) -> Term:
    """Scratch memory of the attention plugin in the context phase.

    Fused: cuBLAS's, and Q where the kernel reads K and V from the paged cache. Unfused: Q, K, V
    and the scores of all pairs of tokens, in the model's dtype and in float32. Source: TensorRT-LLM
    1.2, common/attentionOp.cpp, getWorkspaceSizeForContext (its paddings aside).
    """
    tp_size, item = parallelism_of(config).tp_size, ITEM_BYTES[config["dtype"]]
    num_heads = -(-config["num_attention_heads"] // tp_size)
    queries = num_heads * config["head_size"]
    fixed = CUBLAS_WORKSPACE_BYTES + 8 * limits.num_tokens + 12 * (limits.sequences + 1)
    if fused:
        has_own_q = settings.use_paged_context_fmha and settings.kv_cache_type == "paged"
        size = fixed + (item * limits.num_tokens * queries if has_own_q else 0)
        words = "cuBLAS's 32 MiB + Q of max_num_tokens where it is apart from K and V"
        return Term("attention workspace", size, words, "1.2")
    keys = -(-max(kv_heads_by_layer(config)) // tp_size) * config["head_size"]
    length, tokens = limits.input_len, limits.num_tokens
    pairs = limits.sequences * num_heads * length * length
    size = fixed + pairs * (item + 4) + item * limits.sequences * length * (queries + 2 * keys)
    size += item * tokens * (length + queries) + 8 * tokens
    words = (
        "unfused: batch x beams x heads of the rank x max_input_len squared x (bytes + 4), "
        "+ Q, K, V, mask and output"
    )
    return Term("attention workspace", size, words, "1.2")


def runtime_terms(
    config: Mapping[str, Json], settings: EngineSettings, limits: Limits, is_last: bool
) -> list[Term]:
    """What the runtime keeps beside the engine: step buffers, decoder, communication, CUDA."""
    parallelism = parallelism_of(config)
    terms = [_buffers(config, settings, limits, is_last)]
    if is_last:
        in_flight = limits.sequences * parallelism.pp_size
        size = in_flight * 4 * (4 * _padded_vocabulary(config) + 5 * limits.seq_len)
        words = "sequences x pp_size x 4 bytes x (4 x vocabulary + 5 x max_seq_len)"
        terms.append(Term("decoder", size, words, "inferred"))
    if parallelism.world_size > 1:
        terms.append(_communication(config, limits))
    words = "context and kernels: 800 MiB, as in the log of memory.md"
    return [*terms, Term("CUDA", CUDA_BYTES, words, "reported")]


def _padded_vocabulary(config: Mapping[str, Json]) -> int:
    """Columns of the runtime's logits. Source: 1.2, runtime/modelConfig.h, getVocabSizePadded."""
    ranks = parallelism_of(config).world_size
    return int(-(-config["vocab_size"] // ranks) * ranks)


def _buffers(
    config: Mapping[str, Json], settings: EngineSettings, limits: Limits, is_last: bool
) -> Term:
    """Inputs and outputs of a step. The factor 2 is fitted, what there is of each was read."""
    pp_size = parallelism_of(config).pp_size
    row = _padded_vocabulary(config) * ITEM_BYTES[settings.logits_dtype or config["logits_dtype"]]
    step = 4 * limits.sequences * limits.seq_len + (limits.generated * row if is_last else 0)
    size = 2 * pp_size * step + settings.max_prompt_embedding_table_size * _hidden_bytes(config)
    if pp_size > 1:
        size += limits.num_tokens * _hidden_bytes(config)
    if is_last and settings.gather_context_logits:
        size += limits.rows * row
    if is_last and settings.gather_generation_logits:
        size += CACHED_GENERATION_STEPS * limits.sequences * row
    words = (
        "2 x pp_size x (logits of every sequence over the whole vocabulary + 4 bytes for each of "
        "their tokens), + logits that are kept, hidden states between pp ranks, prompt table"
    )
    return Term("runtime buffers", size, words, "inferred")


def _hidden_bytes(config: Mapping[str, Json]) -> int:
    return int(config["hidden_size"] * ITEM_BYTES[config["dtype"]])


def _communication(config: Mapping[str, Json], limits: Limits) -> Term:
    """NCCL's own, and buffers of the all-reduce. Source: 1.2, runtime/ipcUtils.cpp."""
    tp_size, hidden = parallelism_of(config).tp_size, config["hidden_size"]
    size = NCCL_BYTES
    if tp_size > 1:
        step = limits.sequences * limits.seq_len * hidden // tp_size * 4
        size += 2 * tp_size * min(step, ALL_REDUCE_BYTES)
        size += 3 * tp_size * LAMPORT_TOKENS * hidden * 2
    words = "NCCL's 384 MiB; with tp, 2 x tp_size x (64 MiB or less) for the all-reduce"
    return Term("communication", size, words, "inferred")


def rope_table(config: Mapping[str, Json]) -> Term | None:
    """Cosines and sines of all positions, float32. Source: 1.2, layers/attention.py."""
    kind = str(config.get("position_embedding_type"))
    if "rope" not in kind:
        return None
    tables = 2 if kind == "long_rope" else 1
    size = tables * 4 * config["max_position_embeddings"] * config["rotary_embedding_dim"]
    words = "max_position_embeddings x rotary_embedding_dim x 4 bytes"
    return Term("rope table", size, words, "1.2")
