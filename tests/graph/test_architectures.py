"""The readers of the other classes: what changes nothing is told from what changes the model."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import RecipeError
from pipeline.graph.config import read_decoder
from pipeline.graph.description import (
    Attention,
    BlockSparse,
    Decoder,
    Experts,
    LatentAttention,
    Mlp,
    Norm,
)
from tests.graph.test_architectures_gpt import config_of

LINEAR = {"type": "linear", "factor": 2.0}
REFUSED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("llama", {"residual_mlp": True}),
    ("llama", {"fc_after_embed": True}),
    ("llama", {"use_input_layernorm_in_first_layer": False}),
    ("llama", {"use_last_layernorm": False}),
    ("llama", {"layer_idx_offset": 1}),
    ("llama", {"rotary_pct": 0.5}),
    ("llama", {"qk_layernorm": "no"}),
    ("baichuan-7b", {"rotary_scaling": LINEAR}),
    ("baichuan-7b", {"position_embedding_type": "alibi"}),
    ("baichuan-13b", {"position_embedding_type": "rope_gpt_neox"}),
    ("baichuan-7b", {"model_version": "v3_7b"}),
    ("chatglm3", {"apply_query_key_layer_scaling": True}),
    ("chatglm3", {"apply_residual_connection_post_layernorm": True}),
    ("chatglm3", {"rotary_scaling": LINEAR}),
    ("chatglm3", {"add_bias_linear": True}),
    ("chatglm3", {"position_embedding_type": "chatglm"}),
    ("cohere", {"rotary_scaling": LINEAR}),
    ("cohere", {"position_embedding_type": "rope_gpt_neox"}),
    ("dbrx", {"bias": True}),
    ("dbrx", {"clip_qkv": -8.0}),
    ("deci", {"position_embedding_type": "alibi"}),
    ("deepseek", {"first_k_dense_replace": 2}),
    ("deepseek", {"moe_layer_freq": 2}),
    ("deepseek-v2", {"first_k_dense_replace": 0}),
    ("deepseek-v2", {"moe_layer_freq": 2}),
    ("deepseek-v2", {"scoring_func": "sigmoid"}),
    ("deepseek-v2", {"topk_method": "noaux_tc"}),
    ("deepseek-v2", {"topk_method": "greedy"}),
    ("gemma3", {"rotary_scaling": LINEAR}),
    ("gemma3", {"inter_layernorms": False}),
    ("gemma", {"inter_layernorms": True}),
    ("gemma", {"hidden_act": "gelu_new"}),
    ("phi3", {"position_embedding_type": "long_rope"}),
    ("phi3-longrope", {"position_embedding_type": "rope_gpt_neox"}),
    ("phi3-longrope", {"rotary_scaling": LINEAR}),
    ("phi3-longrope", {"longrope_scaling_short_factors": ["1", "2"]}),
    ("phimoe", {"attention_bias": False}),
    ("qwen2", {"num_labels": 2}),
    ("qwen2", {"moe_intermediate_size": 8}),
    ("qwen3moe", {"mlp_only_layers": [1]}),
    ("qwen3moe", {"decoder_sparse_step": 2}),
    ("qwen2moe", {"moe_shared_expert_intermediate_size": 1}),
)


@pytest.mark.parametrize(("name", "changed"), REFUSED)
def test_what_would_be_another_model_is_refused(name: str, changed: dict[str, Any]) -> None:
    with pytest.raises(RecipeError) as caught:
        read_decoder({**config_of(name), **changed})
    (key,) = changed
    assert any(key in fact for fact in caught.value.facts)


def decoder_of(name: str, **overrides: Any) -> Decoder:
    return read_decoder({**config_of(name), **overrides})


def latent(decoder: Decoder) -> LatentAttention:
    (first, *_) = decoder.attentions.values()
    assert isinstance(first, LatentAttention)
    return first


def test_latent_vectors_have_an_epsilon_of_their_own() -> None:
    decoder = decoder_of("deepseek-v2", norm_epsilon=0.5)
    assert decoder.norm == Norm("rms", 0.5)
    assert latent(decoder).latent_norm == Norm("rms", 1e-6)


def test_greedy_experts_are_not_renormalised_by_default() -> None:
    """MoeConfig's default would, which the model does not."""
    moe = dict(config_of("deepseek-v2-lite")["moe"])
    assert moe.pop("normalization_mode") == 0
    with pytest.raises(RecipeError) as caught:
        decoder_of("deepseek-v2-lite", moe=moe)
    assert caught.value.facts == ("`moe.normalization_mode` is 1 with `topk_method` `greedy`",)


def test_groups_of_experts() -> None:
    moe = config_of("deepseek-v2")["moe"] | {"num_experts": 8, "top_k": 3}
    moe |= {"device_limited_n_group": 4, "device_limited_topk_group": 2}
    mlp = decoder_of("deepseek-v2", moe=moe).layers[1].mlp
    assert isinstance(mlp, Experts)
    assert (mlp.routing.num_groups, mlp.routing.top_groups) == (4, 2)


@pytest.mark.parametrize("homogeneous", [False, True])
def test_every_second_layer_is_dense(homogeneous: bool) -> None:
    """The second of three, counted from one (Phi-3-small)."""
    decoder = decoder_of("phi3small", blocksparse_homo_head_pattern=homogeneous)
    sparse = BlockSparse(64, 16, 8, homogeneous)
    assert [a.block_sparse for a in decoder.attentions.values()] == [sparse, None, sparse]


def test_multipliers_of_phi3_small() -> None:
    config = {"mup_embedding_multiplier": 3.0, "mup_width_multiplier": 4.0}
    decoder = decoder_of("phi3small", **config, mup_attn_multiplier=2.0)
    (first, *_) = decoder.attentions.values()
    assert (decoder.embedding_multiplier, decoder.logits_multiplier) == (3.0, 0.25)
    assert first.scale == 2.0 / first.key_size


def test_factors_of_long_rope() -> None:
    decoder = decoder_of("phimoe", longrope_short_mscale=1.25, longrope_long_mscale=1.5)
    (first, *_) = decoder.attentions.values()
    assert first.rotary is not None
    assert (first.rotary.short_mscale, first.rotary.long_mscale) == (1.25, 1.5)


def test_norms_of_chatglm_may_be_layer_norms() -> None:
    assert decoder_of("chatglm3").norm.kind == "rms"
    assert decoder_of("chatglm3", rmsnorm=False).norm.kind == "layer"


def test_part_of_a_chatglm_head_is_rotated() -> None:
    wide = decoder_of("chatglm3", rotary_pct=0.25, head_size=16, rotary_embedding_dim=16)
    (first, *_) = wide.attentions.values()
    assert first.rotary is not None
    assert (first.rotary.dim, first.rotary.interleaved) == (4, True)


def test_cohere_s_heads_are_normed_where_it_says_so() -> None:
    for name, expected in (("cohere", None), ("cohere-qk-norm", "layer")):
        (first, *_) = decoder_of(name).attentions.values()
        assert isinstance(first, Attention)
        assert (first.head_norm.kind if first.head_norm else None) == expected


@pytest.mark.parametrize(("seq_length", "longest"), [(96, 96), (128, 128), (4096, 128)])
def test_qwen_1_is_known_up_to_its_length(seq_length: int, longest: int) -> None:
    """Beyond it the model scales by length; within it nothing does, whatever the flag says."""
    for flag in (False, True):
        decoder = decoder_of("qwen", seq_length=seq_length, use_logn_attn=flag)
        assert decoder.longest_tokens == longest


def test_logn_attention_bounds_other_qwens() -> None:
    assert decoder_of("qwen2", seq_length=64).longest_tokens == 128
    assert decoder_of("qwen2", seq_length=64, use_logn_attn=True).longest_tokens == 64


def test_qwen_1_counts_both_halves_of_its_mlp() -> None:
    for name, divisor in (("qwen", 2), ("qwen2", 1)):
        mlp = decoder_of(name).layers[0].mlp
        assert isinstance(mlp, Mlp)
        assert mlp.intermediate_size == config_of(name)["intermediate_size"] // divisor


def test_layers_of_deci_with_numbers_of_their_own() -> None:
    decoder = decoder_of("decilm-7b")
    assert [a.num_key_value_heads for a in decoder.attentions.values()] == [2, 6, 2]
    part = {"attention": {"impl": "attention"}, "ffn": {"impl": "mlp"}}
    cut = [part, {**part, "ffn": {"impl": "no_op"}}, {**part, "attention": {"impl": "no_op"}}]
    layers = decoder_of("decilm-7b", layer_configs=cut).layers
    names = [(layer.attention_norm, layer.mlp_norm) for layer in layers]
    one, two = "input_layernorm", "post_layernorm"
    assert names == [(one, two), (one, None), (None, two)]


@pytest.mark.parametrize(
    ("kv_heads", "facts"),
    [
        (4, ("`num_key_value_heads` is 4, which does not divide 6 heads",)),
        (3, ("3 K/V heads cannot be shared by 2 ranks",)),
    ],
)
def test_heads_of_one_layer_of_deci(kv_heads: int, facts: tuple[str, ...]) -> None:
    mlp = {"ffn": {"impl": "mlp"}}
    layers = [{"attention": {"impl": "attention", "num_key_value_heads": n}, **mlp} for n in (2, 6)]
    odd = {"attention": {"impl": "attention", "num_key_value_heads": kv_heads}, **mlp}
    two = {"tp_size": 2, "world_size": 2}
    with pytest.raises(RecipeError) as caught:
        decoder_of("decilm-7b", layer_configs=[*layers, odd], mapping=two)
    assert caught.value.facts == facts


@pytest.mark.parametrize(
    ("part", "fact"),
    [
        ({"attention": {"impl": "mamba"}}, "`layer_configs.attention.impl` is `mamba`"),
        ({"attention": {"window": 4}}, "`layer_configs.attention.window` is not known"),
        ({"ffn": {"intermediate_size": 0}}, "`layer_configs.ffn.intermediate_size` is `0`"),
        ({"parallel": []}, "`layer_configs.parallel` is not known"),
    ],
)
def test_layers_of_deci_that_are_not_known(part: dict[str, Any], fact: str) -> None:
    usual = {"attention": {"impl": "attention"}, "ffn": {"impl": "mlp"}}
    with pytest.raises(RecipeError) as caught:
        decoder_of("decilm-7b", layer_configs=[usual, {**usual, **part}, usual])
    assert caught.value.facts[0].startswith(fact)
