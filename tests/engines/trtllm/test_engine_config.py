"""The engine's own config.json against what was asked: every option, the version, the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.trtllm.request import build_request
from pipeline.errors import VerificationError
from tests.engines.trtllm.building import settings
from tests.engines.trtllm.built import WHOLE, Built, copy_of_built, log_of


@pytest.fixture
def built(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Built:
    return copy_of_built(tmp_path_factory, tmp_path)


@pytest.mark.parametrize("text", [None, "{}", "[]", "{", '{"build_config": {}}'])
def test_a_config_that_is_none_is_refused(built: Built, text: str | None) -> None:
    (built.folder / "config.json").unlink()
    if text is not None:
        (built.folder / "config.json").write_text(text)
    with pytest.raises(VerificationError, match=r"config\.json"):
        built.check()


def test_another_version_is_refused(built: Built) -> None:
    with pytest.raises(
        VerificationError, match=r"built by TensorRT-LLM 1\.2\.1, but .* is 1\.2\.2"
    ):
        built.check(installed="1.2.2")


def test_every_option_is_compared(built: Built) -> None:
    """Whatever an option ends as instead, it is seen, by its name."""
    unwritten = built.check().not_written
    compared = [name for name in built.request.options if name not in unwritten]
    assert len(compared) > 40
    for name in compared:
        build_config = json.loads((built.folder / "config.json").read_bytes())["build_config"]
        key = "manage_weights" if name == "fast_build" else name
        part = "plugin_config" if key in build_config["plugin_config"] else None

        def otherwise(document: dict[str, Any], part: Any = part, key: Any = key) -> None:
            found = document["build_config"]
            found = found[part] if part else found
            old = found[key]
            found[key] = (not old) if isinstance(old, bool) else f"not {old}"

        before = (built.folder / "config.json").read_bytes()
        built.change(otherwise)
        with pytest.raises(VerificationError, match=f"`engine.{name}`"):
            built.check()
        built.change(lambda d, part=part, key=key: _delete(d, part, key))
        with pytest.raises(VerificationError, match=f"`engine.{name}`"):
            built.check()
        (built.folder / "config.json").write_bytes(before)


def _delete(document: dict[str, Any], part: str | None, key: str) -> None:
    found = document["build_config"]
    del (found[part] if part else found)[key]


def test_an_option_forced_off_names_its_rule_and_the_log(built: Built, tmp_path: Path) -> None:
    plain = [{"use_paged_context_fmha": False}, {"use_paged_context_fmha": 0}]
    for change in plain:
        built.change(lambda d, change=change: d["build_config"]["plugin_config"].update(change))
        line = "[x] [TRT-LLM] [W] Paged Context FMHA is disabled because it doesn't work with int8"
        log = log_of(tmp_path / f"log{len(list(tmp_path.iterdir()))}", line, WHOLE)
        with pytest.raises(VerificationError, match="not built as asked") as caught:
            built.check(log)
        option, *lines = caught.value.facts
        assert option.startswith("`use_paged_context_fmha`: asked true, found")
        assert "rule `paged-context-without-context-fmha`" in option
        assert "builder.py" in option
        assert "int8" in lines[0]


def test_kinds_of_values_that_are_written_otherwise(built: Built) -> None:
    def spell(document: dict[str, Any]) -> None:
        document["build_config"]["kv_cache_type"] = "PAGED"

    built.change(spell)
    built.check()
    lookahead = settings(speculative_decoding_mode="lookahead_decoding", max_draft_len=4)
    built.request = build_request(lookahead, built.source.config)
    built.change(
        lambda d: d["build_config"].update(
            speculative_decoding_mode=8, max_draft_len=4, max_seq_len=48 + 4
        )
    )
    built.check()


def test_lora_and_logits_are_found_where_they_are(built: Built) -> None:
    lora = {"lora_plugin": "auto", "lora_target_modules": ("attn_qkv",), "max_lora_rank": 8}
    asked = settings(logits_dtype="float16", **lora)
    built.request = build_request(asked, built.source.config)

    def change(document: dict[str, Any]) -> None:
        found = document["build_config"]
        found["plugin_config"]["lora_plugin"] = "bfloat16"
        found["lora_config"] |= {"lora_target_modules": ["attn_qkv"], "max_lora_rank": 8}
        document["pretrained_config"]["logits_dtype"] = "float16"

    with pytest.raises(VerificationError) as caught:
        built.check()
    for name in ("lora_plugin", "lora_target_modules", "max_lora_rank", "logits_dtype"):
        assert f"`engine.{name}`" in caught.value.message
    built.change(change)
    built.check()


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"architecture": "MistralForCausalLM"}, "`architecture`"),
        ({"dtype": "float16"}, '`dtype`: "bfloat16" in the checkpoint, "float16" in the engine'),
        ({"num_hidden_layers": 4}, "`num_hidden_layers`: 3 in"),
        ({"mapping": {"tp_size": 1}}, "`mapping.tp_size`: 2 in the checkpoint, 1 in the engine"),
        ({"rotary_base": None}, "`rotary_base`"),
        ({"logits_dtype": "float16"}, "`logits_dtype`"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_the_model_is_the_checkpoints(built: Built, change: dict[str, Any], fact: str) -> None:
    built.change(lambda document: document["pretrained_config"].update(change))
    with pytest.raises(VerificationError, match="the engine's model is not the checkpoint's") as e:
        built.check()
    assert any(told.startswith(fact) for told in e.value.facts), e.value.facts
