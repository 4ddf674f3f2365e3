"""Remote-code architectures with the multipliers of muP: JAIS and Phi-3-small.

Sources of the published code, by model on the Hugging Face Hub: core42/jais-13b and
inceptionai/jais-family-590m (`modeling_jais.py`; also vLLM, `models/jais.py`),
microsoft/Phi-3-small-8k-instruct and -128k-instruct (`modeling_phi3_small.py`,
`positional_embedding.py`, `triton_flash_blocksparse_attn.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.parity.as_published import read_json
from tests.parity.exchanged import Layer, build, linear, plain, read_tensors, with_alibi
from tests.parity.references import Original


def jais(folder: Path) -> Original:
    """JAIS: GPT-2 with ALiBi, a gated MLP, and the multipliers of muP.

    The first of the two MLP projections is the linear one.
    """
    config = read_json(folder / "config.json")
    tensors = read_tensors(folder)
    second = {name: tensors.pop(name) for name in list(tensors) if ".c_fc2." in name}
    scale_jais(tensors, config)
    keys = ("vocab_size", "n_embd", "n_head", "n_layer", "n_positions", "n_inner")
    settings = {key: config[key] for key in (*keys, "layer_norm_epsilon")}
    model = build("GPT2", settings | {"tie_word_embeddings": False}, tensors)
    for number, block in enumerate(model.transformer.h):
        prefix = f"transformer.h.{number}.mlp.c_fc2."
        gate = linear(second[f"{prefix}weight"].T, second[f"{prefix}bias"])
        block.mlp.forward = gated_conv(block.mlp, gate)
    words = "transformers GPT2LMHeadModel with ALiBi and a gated MLP, written for this project"
    return Original(
        with_alibi(model, config["n_head"]), f"{words} after core42/jais-13b, modeling_jais.py"
    )


def scale_jais(tensors: dict[str, Any], config: Mapping[str, Any]) -> None:
    """Put the multipliers into the weights, and no positions into those of GPT-2.

    Embeddings and logits are multiplied, scores divided by the head width instead of its root.
    """
    width = config["n_embd"]
    if config.get("scale_qk_dot_by_d", config.get("mup_scale_qk_dot_by_d")):
        for name, tensor in tensors.items():
            if ".c_attn." in name:
                tensor[..., :width] *= (width // config["n_head"]) ** -0.5
    table = tensors["transformer.wte.weight"]
    out = jais_scale(config, "width_scale") * config.get("mup_output_alpha", 1.0)
    tensors["transformer.wte.weight"] = table * jais_scale(config, "embeddings_scale")
    tensors["transformer.wpe.weight"] = table.new_zeros(config["n_positions"], width)
    tensors["lm_head.weight"] = table * out


def jais_scale(config: Mapping[str, Any], name: str) -> float:
    """A multiplier, which the later models name with a prefix."""
    return float(config.get(name, config.get(f"mup_{name}")))


def gated_conv(mlp: Any, gate: Layer) -> Layer:
    """`c_proj(c_fc(x) * silu(c_fc2(x)))`."""
    from torch.nn.functional import silu

    return lambda x: mlp.c_proj(mlp.c_fc(x) * silu(gate(x)))


def phi3_small(folder: Path) -> Original:
    """Phi-3-small: the blocks of StarCoder 2 with another MLP, muP, and sparse attention.

    The 128k model rotates by its short factors within `original_max_position_embeddings`, and
    multiplies cosine and sine.
    """
    config = read_json(folder / "config.json")
    made = phi3_small_tensors(folder, config)
    kept = {name: each for name, each in made.items() if ".c_fc." not in name}
    model = build("Starcoder2", phi3_small_config(config), kept, missing=".c_fc.")
    for number, layer in enumerate(model.model.layers):
        prefix = f"model.layers.{number}.mlp.c_fc."
        up = linear(made[f"{prefix}weight"], made[f"{prefix}bias"])
        layer.mlp.forward = gegelu(up, layer.mlp.c_proj, config["gegelu_limit"])
        if (number + 1) % config["dense_attention_every_n_layers"]:
            layer.self_attn.forward = block_sparse(layer.self_attn.forward, config)
    words = "transformers Starcoder2ForCausalLM with gegelu and muP, written for this project"
    return Original(
        plain(model), f"{words} after microsoft/Phi-3-small-8k-instruct, modeling_phi3_small.py"
    )


def phi3_small_tensors(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """StarCoder 2's names, the multipliers of muP put into the weights.

    `query_key_value` holds for each key head its query heads, then key, then value. Scores are
    divided by the head width, not by its root.
    """
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    width = config["hidden_size"] // heads
    names = {
        "self_attn.dense": "self_attn.o_proj",
        "mlp.up_proj": "mlp.c_fc",
        "mlp.down_proj": "mlp.c_proj",
        "model.final_layernorm": "model.norm",
    }
    made: dict[str, Any] = {}
    for name, tensor in read_tensors(folder).items():
        new = name
        for old, other in names.items():
            new = new.replace(old, other)
        if "query_key_value" not in new:
            made[new] = tensor
            continue
        split = tensor.unflatten(0, (groups, heads // groups + 2, width))
        cuts = {"q": split[:, :-2], "k": split[:, -2:-1], "v": split[:, -1:]}
        for part, cut in cuts.items():
            scale = config["mup_attn_multiplier"] * width**-0.5 if part == "q" else 1.0
            made[new.replace("query_key_value", f"{part}_proj")] = scale * cut.flatten(0, 2)
    table = made["model.embed_tokens.weight"]
    made["model.embed_tokens.weight"] = table * config["mup_embedding_multiplier"]
    made["lm_head.weight"] = table / config["mup_width_multiplier"]
    return made


def phi3_small_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of Starcoder2Config."""
    names = ("hidden_size", "num_attention_heads", "num_key_value_heads", "num_hidden_layers")
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config["rope_embedding_base"]}
    scaling = config.get("rope_scaling")
    if scaling:
        rope |= {key: scaling[key] for key in ("short_factor", "long_factor")}
        rope |= {
            "rope_type": "longrope",
            "attention_factor": scaling["short_mscale"],
            "original_max_position_embeddings": scaling["original_max_position_embeddings"],
        }
    return {
        **{name: config[name] for name in (*names, "vocab_size", "max_position_embeddings")},
        "intermediate_size": config["ff_intermediate_size"],
        "norm_epsilon": config["layer_norm_epsilon"],
        "rope_parameters": rope,
        "tie_word_embeddings": False,
        "use_bias": True,
    }


def gegelu(up: Layer, down: Layer, limit: float) -> Layer:
    """`down(quick_gelu(a) * (b + 1))` of even and odd outputs `a`, `b` of `up`, both limited."""
    import torch

    def forward(x: Any) -> Any:
        both = up(x)
        gate, rest = both[..., 0::2].clamp(max=limit), both[..., 1::2].clamp(-limit, limit)
        return down(gate * torch.sigmoid(1.702 * gate) * (rest + 1.0))

    return forward


def block_sparse(inner: Callable[..., Any], config: Mapping[str, Any]) -> Callable[..., Any]:
    """An attention that sees near blocks of tokens, and every so manyth block of all.

    Which of the far blocks differs from head to head, unless they are homogeneous.
    """
    import torch

    heads, stride = config["num_attention_heads"], config["blocksparse_vert_stride"]
    shift = 0 if config["blocksparse_homo_head_pattern"] else max(1, stride // heads)

    def forward(hidden_states: Any, attention_mask: Any, **others: Any) -> Any:
        block = torch.arange(hidden_states.shape[1]) // config["blocksparse_block_size"]
        near = block[:, None] - block[None, :] < config["blocksparse_num_local_blocks"]
        head = torch.arange(heads)[:, None, None]
        far = (block[None, None, :] + head * shift + 1) % stride == 0
        mask = attention_mask.masked_fill(~(near | far), torch.finfo(torch.float32).min)
        return inner(hidden_states=hidden_states, attention_mask=mask, **others)

    return forward
