"""config.json of a source: every key is translated, neutral, inert, or an error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.errors import RecipeError
from pipeline.families import find_family
from pipeline.weights.config_translation import Translation, translate
from pipeline.weights.parallel import Parallelism
from tests import tiny

MISTRAL = {
    **{key: value for key, value in tiny.CONFIG.items() if not key.endswith("_bias")},
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
}


def run(config: dict[str, Any]) -> Translation:
    architecture = config["architectures"][0]
    given = {
        "architecture": architecture,
        "dtype": "bfloat16",
        "mapping": Parallelism(1, 1).mapping(),
        "quantization": {},
        "use_parallel_embedding": False,
        "embedding_sharding_dim": 0,
    }
    family = find_family(architecture)
    return translate(family.config, family.model_class, config, architecture, given)


def refused(config: dict[str, Any]) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        run(config)
    return caught.value


def told(error: RecipeError) -> str:
    return "\n".join([error.message, *error.facts])


def without(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


def test_the_target_has_the_keys_of_tensorrt_llm_in_order() -> None:
    config = run(tiny.CONFIG).config
    keys = list(find_family("LlamaForCausalLM").model_class.keys)
    assert list(config) == [
        *("architecture", "dtype", *keys),
        *("mapping", "quantization", "use_parallel_embedding", "embedding_sharding_dim"),
    ]
    assert json.loads(json.dumps(config)) == config
    assert config["norm_epsilon"] == 1e-5
    assert config["head_size"] == 16
    assert config["mapping"]["world_size"] == 1


def test_every_key_of_the_source_is_in_the_ledger() -> None:
    config = {**tiny.CONFIG, "eos_token_id": [1, 2], "transformers_version": "4.57.3"}
    ledger = run(config).ledger
    assert config.keys() <= ledger.keys()
    assert ledger["rms_norm_eps"] == {"use": "translated", "to": "norm_epsilon"}
    assert ledger["eos_token_id"]["use"] == "inert"
    assert ledger["model_type"]["use"] == "neutral"
    assert list(ledger) == sorted(ledger)


def test_defaults_are_those_of_transformers_and_are_told() -> None:
    names = ("head_dim", "num_key_value_heads", "rms_norm_eps", "hidden_act", "rope_theta")
    made = run(without(tiny.CONFIG, *names, "attention_bias", "mlp_bias", "torch_dtype"))
    assert made.config["head_size"] == 48 // 6
    assert made.config["num_key_value_heads"] == 6
    assert made.config["norm_epsilon"] == 1e-6
    assert made.config["hidden_act"] == "silu"
    assert made.config["rotary_base"] == 10000.0
    for name in names:
        assert made.ledger[name]["use"] == "default"


@pytest.mark.parametrize("key", ["head_dim", "num_key_value_heads", "rope_scaling"])
def test_null_counts_as_absent(key: str) -> None:
    assert run({**tiny.CONFIG, key: None}).config == run(without(tiny.CONFIG, key)).config


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "MistralForCausalLM"])
def test_defaults_depend_on_the_class(architecture: str) -> None:
    config = tiny.CONFIG if architecture.startswith("Llama") else MISTRAL
    made = run(without(config, "max_position_embeddings"))
    expected = {"LlamaForCausalLM": 2048, "MistralForCausalLM": 131072}
    assert made.config["max_position_embeddings"] == expected[architecture]


@pytest.mark.parametrize(
    "key",
    ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"],
)
def test_sizes_have_no_default(key: str) -> None:
    assert f"`{key}` is missing" in told(refused(without(tiny.CONFIG, key)))


def test_mistral_without_key_value_heads_is_refused() -> None:
    """Its class means 8 then, which no reader expects."""
    assert "`num_key_value_heads` is missing" in told(
        refused(without(MISTRAL, "num_key_value_heads"))
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vocab_size": 0}, "`vocab_size` is `0`, expected an integer of 1 or more"),
        ({"vocab_size": True}, "expected an integer"),
        ({"num_hidden_layers": 1 << 70}, "layers, expected at most 1000"),
        ({"vocab_size": "113"}, "expected an integer"),
        ({"vocab_size": 113.0}, "expected an integer"),
        ({"rms_norm_eps": -1e-5}, "expected a number above 0"),
        ({"rms_norm_eps": "1e-5"}, "expected a number above 0"),
        ({"attention_bias": 1}, "expected true or false"),
        ({"hidden_act": "mish"}, "expected one of `silu`"),
        ({"hidden_act": ["silu"]}, "expected one of"),
        ({"hidden_size": 50, "head_dim": None}, "`head_dim` is missing, and its default"),
        ({"num_key_value_heads": 4}, "`num_attention_heads` 6 is not a multiple of"),
        ({"head_dim": 7}, "`head_size` 7 is not a multiple of `2`"),
        ({"model_type": "mistral"}, "`model_type` is `mistral`, supported: `llama`"),
        ({"num_local_experts": 8}, "this family has no experts"),
        ({"partial_rotary_factor": 0.5}, "all of a head is rotated"),
        ({"rope_interleaved": True}, "not pairs"),
        ({"is_encoder_decoder": True}, "decoders have no encoder"),
        ({"pruned_heads": {"0": [1]}}, "all heads are there"),
        ({"bias": True}, "another family's spelling"),
        ({"attention_multiplier": 0.5}, "unknown key `attention_multiplier`"),
        ({"rope_thet": 5e5}, "unknown key `rope_thet`; did you mean `rope_theta`?"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "Python code of the source, which is never executed"),
        ({"odd\x1bkey": 1}, r"unknown key `odd\x1bkey`"),
        ({"dtype": "float16"}, None),
    ],
)
def test_what_cannot_be_translated(change: dict[str, Any], reason: str | None) -> None:
    if reason is None:
        run({**tiny.CONFIG, **change})  # the dtype's own conflict is `resolve_dtype`'s to see
    else:
        assert reason in told(refused({**tiny.CONFIG, **change}))


def test_all_faults_are_told_together() -> None:
    error = refused({**tiny.CONFIG, "logit_scale": 2, "vocab_size": -1, "hidden_act": "mish"})
    assert "3 keys that cannot be translated" in error.message
    assert len(error.facts) == 3


def test_quantized_sources_are_refused_with_a_hint() -> None:
    error = refused({**tiny.CONFIG, "quantization_config": {"quant_method": "awq"}})
    assert error.hint == "use the checkpoint as it was before quantization"
    run({**tiny.CONFIG, "quantization_config": None})


@pytest.mark.parametrize("key", ["attention_bias", "mlp_bias"])
def test_mistral_has_no_biases_whatever_its_config_says(key: str) -> None:
    run({**MISTRAL, key: False})
    assert f"`{key}` is `True`, expected one of `False`" in told(refused({**MISTRAL, key: True}))


def test_swish_is_silu() -> None:
    assert run({**tiny.CONFIG, "hidden_act": "swish"}).config["hidden_act"] == "silu"


def test_targets_do_not_share_what_can_change() -> None:
    one, other = run(tiny.CONFIG), run(tiny.CONFIG)
    one.config["moe"]["num_experts"] = 8
    assert other.config["moe"]["num_experts"] == 0
