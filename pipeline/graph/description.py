"""What a decoder is, layer by layer, in the words that the graph's parts are written from.

Pure data: read from a TensorRT-LLM checkpoint's config.json (`architectures/`), written as ONNX by
the parts. Sizes are of the whole model, whatever its layout. Which biases and gates there are is
not said here: the checkpoint's inventory says it (`weights.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.graph.expert_description import Routing
from pipeline.graph.rotary_description import Rotary


@dataclass(frozen=True, slots=True)
class Norm:
    """RMS norm, or layer norm (with a bias where the checkpoint has one)."""

    kind: Literal["rms", "layer"]
    epsilon: float


@dataclass(frozen=True, slots=True)
class Alibi:
    """A bias of `-slope(head) * distance` on the attention logits, times `factor`.

    The slopes are powers of `2 ** (-max_bias / heads)` where the number of heads is a power of two;
    otherwise those of the power of two below, then every other one of the power of two above.
    `in_bfloat16`: the bias is a slope times the key's position, both and the product rounded to
    bfloat16 before `factor` (Falcon).
    """

    max_bias: float = 8.0
    factor: float = 1.0
    in_bfloat16: bool = False


@dataclass(frozen=True, slots=True)
class BlockSparse:
    """Attention to near blocks of keys, and to every `vertical_stride`th one (Phi-3-small).

    With other heads, other blocks: a head sees block `k` if `(k + head * step + 1) %
    vertical_stride` is 0; `step` is 0 if `homogeneous`, else `max(1, vertical_stride // heads)`.
    """

    block_size: int
    num_local_blocks: int
    vertical_stride: int
    homogeneous: bool


@dataclass(frozen=True, slots=True)
class Attention:
    """Self-attention with `num_attention_heads` queries over `num_key_value_heads`.

    `scale` multiplies queries and keys' products, `softcap` bounds them. `window`: how many last
    tokens a token sees, itself included. `head_norm`: the norm of every head of queries and keys,
    before rotary positions or after. `clip`: bound of queries, keys and values as projected.
    """

    num_attention_heads: int
    num_key_value_heads: int
    head_size: int
    scale: float
    rotary: Rotary | None = None
    alibi: Alibi | None = None
    window: int | None = None
    block_sparse: BlockSparse | None = None
    softcap: float | None = None
    head_norm: Norm | None = None
    norm_after_rotary: bool = False
    clip: float | None = None

    @property
    def key_size(self) -> int:
        """Width of a head's keys in the cache."""
        return self.head_size

    @property
    def value_size(self) -> int:
        """Width of a head's values in the cache."""
        return self.head_size


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek): keys and values out of one small latent vector.

    `q_lora_rank` None: queries are projected in one step.
    """

    num_attention_heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    scale: float
    rotary: Rotary
    latent_norm: Norm
    window: None = None
    alibi: None = None
    block_sparse: None = None
    softcap: None = None

    @property
    def num_key_value_heads(self) -> int:
        """Every head has keys and values of its own, once they are expanded."""
        return self.num_attention_heads

    @property
    def key_size(self) -> int:
        """Width of a head's keys in the cache."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def value_size(self) -> int:
        """Width of a head's values in the cache."""
        return self.v_head_dim


@dataclass(frozen=True, slots=True)
class Linear:
    """One linear layer in the place of attention or MLP (Nemotron-NAS), by its name in a layer."""

    name: str


@dataclass(frozen=True, slots=True)
class Mlp:
    """A dense MLP. `gate`: a second projection that is multiplied with the activated one.

    "apart": `fc` is activated, `gate` is not. "fused": `fc` holds both, first the one that is not
    activated (TensorRT-LLM's `swiglu`). "gegelu": `fc` holds both, each clamped (Phi-3-small).
    """

    name: str
    intermediate_size: int
    activation: str
    gate: Literal["none", "apart", "fused", "gegelu"]
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts, each a gated MLP; `shared` is one that every token passes.

    Where the checkpoint has `<name>.shared_expert_gate`, its sigmoid weighs the shared expert.
    """

    name: str
    routing: Routing
    intermediate_size: int
    activation: str
    shared: Mlp | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, with the names of its norms in the checkpoint; None: there is none.

    Sequential: `h = x + attention(norm(x))`, `y = h + mlp(norm(h))`. Parallel: both from `x`. The
    `_out` norms apply to what attention and MLP yield, before it is added (sandwich).
    `norm_after_residual`: the norms apply to the sums instead (`h = norm(x + attention(x))`).
    """

    attention: Attention | LatentAttention | Linear | None
    mlp: Mlp | Experts | Linear | None
    attention_norm: str | None = "input_layernorm"
    mlp_norm: str | None = "post_layernorm"
    attention_out_norm: str | None = None
    mlp_out_norm: str | None = None
    parallel: bool = False
    norm_after_residual: bool = False
    residual_multiplier: float = 1.0


@dataclass(frozen=True, slots=True)
class Decoder:
    """The whole decoder. `positions`: the table of learned positions is added to the embedding.

    `longest_tokens`: up to how many tokens the graph computes the model, and `longest_because`.
    """

    architecture: str
    dtype: str
    vocab_size: int
    hidden_size: int
    norm: Norm
    layers: tuple[Layer, ...]
    longest_tokens: int
    longest_because: str
    embedding_multiplier: float = 1.0
    embedding_norm: str | None = None
    learned_positions: bool = False
    final_norm: str | None = "transformer.ln_f"
    logits_multiplier: float = 1.0
    logits_softcap: float | None = None

    @property
    def attentions(self) -> dict[int, Attention | LatentAttention]:
        """The layers that have attention, and so a cache, by number."""
        kinds = (Attention, LatentAttention)
        return {
            i: a for i, layer in enumerate(self.layers) if isinstance(a := layer.attention, kinds)
        }
