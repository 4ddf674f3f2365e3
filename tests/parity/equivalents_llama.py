"""Remote-code architectures that compute what Llama or Qwen2 of transformers compute.

Sources of the published code, by model on the Hugging Face Hub: baichuan-inc/Baichuan-7B,
Baichuan-13B-Chat, Baichuan2-7B-Chat, Baichuan2-13B-Chat (`modeling_baichuan.py`);
internlm/internlm-7b (`modeling_internlm.py`), internlm2_5-7b-chat (`modeling_internlm2.py`);
LGAI-EXAONE/EXAONE-3.0-7.8B-Instruct (`modeling_exaone.py`); Qwen/Qwen-7B (`modeling_qwen.py`);
Skywork/Skywork-13B-base (`modeling_skywork.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.parity.as_published import read_json
from tests.parity.exchanged import build, plain, read_tensors, with_alibi, without_rotary
from tests.parity.references import Original

LLAMA = "transformers LlamaForCausalLM"


def llama_config(config: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Arguments of LlamaConfig from a published config with the usual names.

    Dynamic scalings change nothing within the model's positions.
    """
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    made = {name: config[name] for name in (*names, "vocab_size")}
    rope = {"rope_type": "default", "rope_theta": float(config.get("rope_theta", 10000.0))}
    if (config.get("rope_scaling") or {}).get("rope_type") == "llama3":
        rope |= config["rope_scaling"]
    return {
        **made,
        "num_key_value_heads": config.get("num_key_value_heads") or made["num_attention_heads"],
        "rms_norm_eps": config.get("rms_norm_eps", 1e-6),
        "max_position_embeddings": config.get("max_position_embeddings", 128),
        "rope_parameters": rope,
        "tie_word_embeddings": config["tie_word_embeddings"],
        "pad_token_id": None,
        **changes,
    }


def same_names(folder: Path) -> Original:
    """InternLM, with biases on all four projections, and Skywork: names of Llama too."""
    config = read_json(folder / "config.json")
    made = llama_config(config, attention_bias=config.get("bias", False))
    return Original(plain(build("Llama", made, read_tensors(folder))), f"{LLAMA}, as it is")


def baichuan_tensors(folder: Path, normalised: bool) -> dict[str, Any]:
    """`W_pack` cut into queries, keys, values; Baichuan 2 has rows of length one in its head."""
    from torch.nn.functional import normalize

    made: dict[str, Any] = {}
    for name, tensor in read_tensors(folder).items():
        if "W_pack" in name:
            for part, cut in zip("qkv", tensor.chunk(3), strict=True):
                made[name.replace("W_pack", f"{part}_proj")] = cut
        else:
            made[name] = tensor
    if normalised:
        made["lm_head.weight"] = normalize(made["lm_head.weight"])
    return made


def baichuan_rotary(folder: Path, normalised: bool) -> Original:
    """Baichuan of 7B parameters."""
    config = llama_config(read_json(folder / "config.json"))
    model = build("Llama", config, baichuan_tensors(folder, normalised))
    return Original(plain(model), f"{LLAMA}, W_pack cut{head_words(normalised)}")


def baichuan_alibi(folder: Path, normalised: bool) -> Original:
    """Baichuan of 13B parameters: no rotation, slopes on the scores."""
    config = llama_config(read_json(folder / "config.json"))
    model = build("Llama", config, baichuan_tensors(folder, normalised))
    without_rotary(model)
    words = f"{LLAMA} without rotation, with ALiBi, W_pack cut{head_words(normalised)}"
    return Original(with_alibi(model, config["num_attention_heads"]), words)


def head_words(normalised: bool) -> str:
    """What the origin says of the head."""
    return ", head normalised" if normalised else ""


def internlm2(folder: Path) -> Original:
    """InternLM 2: for each key head its query heads, then key, then value; other names."""
    config = read_json(folder / "config.json")
    groups = config["num_key_value_heads"]
    each = config["num_attention_heads"] // groups
    names = {
        "tok_embeddings": "embed_tokens",
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attention.wo": "self_attn.o_proj",
        "feed_forward.w1": "mlp.gate_proj",
        "feed_forward.w3": "mlp.up_proj",
        "feed_forward.w2": "mlp.down_proj",
        "output.weight": "lm_head.weight",
    }
    made: dict[str, Any] = {}
    for name, tensor in read_tensors(folder).items():
        if "wqkv" not in name:
            made[renamed(name, names)] = tensor
            continue
        width = config["hidden_size"] // config["num_attention_heads"]
        split = tensor.unflatten(0, (groups, each + 2, width))
        for part, cut in {"q": split[:, :each], "k": split[:, -2], "v": split[:, -1]}.items():
            whole = cut.reshape(-1, tensor.shape[1])
            made[name.replace("attention.wqkv", f"self_attn.{part}_proj")] = whole
    return Original(plain(build("Llama", llama_config(config), made)), f"{LLAMA}, wqkv cut")


def exaone(folder: Path) -> Original:
    """EXAONE 3: `c_fc_0` is the gate."""
    config = read_json(folder / "config.json")
    names = {
        "transformer.h.": "model.layers.",
        "transformer.wte": "model.embed_tokens",
        "transformer.ln_f": "model.norm",
        "ln_1": "input_layernorm",
        "ln_2": "post_attention_layernorm",
        "attn.attention.out_proj": "self_attn.o_proj",
        "attn.attention.": "self_attn.",
        "c_fc_0": "gate_proj",
        "c_fc_1": "up_proj",
        "mlp.c_proj": "mlp.down_proj",
    }
    settings = llama_config(
        config | {"num_hidden_layers": config["num_layers"]},
        rms_norm_eps=config["layer_norm_epsilon"],
    )
    tensors = {renamed(name, names): each for name, each in read_tensors(folder).items()}
    return Original(plain(build("Llama", settings, tensors)), f"{LLAMA}, renamed")


def qwen(folder: Path) -> Original:
    """The first Qwen, within its `seq_length`: there neither logn nor NTK changes anything.

    `w2` is the gate; the stored `intermediate_size` counts both. Qwen2 has its biases too.
    """
    config = read_json(folder / "config.json")
    names = {
        "transformer.h.": "model.layers.",
        "transformer.wte": "model.embed_tokens",
        "transformer.ln_f": "model.norm",
        "ln_1": "input_layernorm",
        "ln_2": "post_attention_layernorm",
        "attn.c_proj": "self_attn.o_proj",
        "mlp.w1": "mlp.up_proj",
        "mlp.w2": "mlp.gate_proj",
        "mlp.c_proj": "mlp.down_proj",
    }
    made: dict[str, Any] = {}
    for name, tensor in read_tensors(folder).items():
        new = renamed(name, names)
        if "c_attn" not in new:
            made[new] = tensor
            continue
        for part, cut in zip("qkv", tensor.chunk(3), strict=True):
            made[new.replace("attn.c_attn", f"self_attn.{part}_proj")] = cut
    settings = llama_config(
        config,
        intermediate_size=config["intermediate_size"] // 2,
        rms_norm_eps=config["layer_norm_epsilon"],
    )
    words = "transformers Qwen2ForCausalLM, c_attn cut, w1 as up and w2 as gate"
    return Original(plain(build("Qwen2", settings, made)), words)


def renamed(name: str, names: Mapping[str, str]) -> str:
    """A tensor's name with each part exchanged once, in the order of the table."""
    for old, new in names.items():
        name = re.sub(rf"(^|(?<=\.)){re.escape(old)}", new, name, count=1)
    return name
