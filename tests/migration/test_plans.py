"""What the corpus migrates to plans cleanly: TensorRT-LLM's rules refuse none of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.engines.trtllm.judgement import rule_problems
from pipeline.errors import RecipeError
from pipeline.hardware import Gpu, Hardware
from pipeline.migration.migrate import Migration
from pipeline.plan import resolve
from pipeline.recipe.load import load_recipe
from pipeline.recipe.schema import Recipe
from pipeline.sources.digest_memory import DigestMemory
from tests.families.fixtures import FIXTURES
from tests.migration.test_corpus import CASES, migrated
from tests.trtllm.judged import LLAMA

WHOLE = [case for case in CASES if migrated(case, source="owner/model").is_whole]
GPT = {
    "architecture": "GPTForCausalLM",
    "position_embedding_type": "learned_absolute",
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_size": 64,
    "max_position_embeddings": 2048,
}
FALCON = {"architecture": "FalconForCausalLM", "head_size": 64, "num_attention_heads": 64}
GEMMA = {"architecture": "Gemma2ForCausalLM", "head_size": 256, "attn_logit_softcapping": 50.0}
MIXTRAL = {"architecture": "MixtralForCausalLM", "moe": {"num_experts": 8}}
MODELS = {
    "falcon": FALCON,
    "gemma-2b-hf": {**GEMMA, "architecture": "GemmaForCausalLM", "attn_logit_softcapping": None},
    "gemma2": GEMMA,
    "gpt2": GPT,
    "mixtral": MIXTRAL,
    "old-build-gpt2": GPT,
    "qwen2": {"architecture": "Qwen2ForCausalLM"},
    "starcoder2": {**GPT, "max_position_embeddings": 16384},
}
"""Beginnings of cases -> how their models differ from a Llama."""


def _recipes(migration: Migration, folder: Path) -> list[Recipe]:
    path = folder / "recipe.yaml"
    path.write_text(migration.recipe, encoding="utf-8")
    base = load_recipe(path)
    return [base.recipe, *(load_recipe(path, variant=name).recipe for name in base.variants)]


def _config(case: str, recipe: Recipe) -> dict[str, Any]:
    """The config.json of such a model, in the recipe's type and layout."""
    sizes = recipe.checkpoint.model_dump(include={"tp_size", "pp_size", "cp_size"})
    moe_ep_size = recipe.checkpoint.moe_ep_size or 1
    mapping = {
        **sizes,
        "world_size": sizes["tp_size"] * sizes["pp_size"] * sizes["cp_size"],
        "moe_ep_size": moe_ep_size,
        "moe_tp_size": sizes["tp_size"] // moe_ep_size,
    }
    dtype = recipe.checkpoint.dtype
    return {
        **LLAMA,
        "dtype": "bfloat16" if dtype == "auto" else dtype,
        "max_position_embeddings": 131072,
        "moe": {"num_experts": 8 if moe_ep_size > 1 else 0},
        **next((MODELS[name] for name in MODELS if case.startswith(name)), {}),
        "mapping": mapping,
    }


@pytest.mark.parametrize("case", WHOLE)
def test_rules_refuse_nothing(case: str, tmp_path: Path) -> None:
    for recipe in _recipes(migrated(case, source="owner/model"), tmp_path):
        problems = rule_problems(_config(case, recipe), recipe.engine)
        assert [problem.message for problem in problems] == []


def test_most_of_the_corpus_is_whole() -> None:
    assert len(WHOLE) >= 45


CHECKPOINTS = {
    "llama-fp16.sh": "llama",
    "llama-seq-alone.sh": "llama-tied",
    "gemma-2b-hf.sh": "gemma",
    "gemma3-uv.sh": "gemma3",
    "chatglm3-defaults.sh": "chatglm3",
    "baichuan-equals.sh": "baichuan-13b",
    "phi-2-hub.sh": "phi",
    "gpt2-variant.sh": "gpt2",
    "starcoder2.sh": "starcoder2",
    "falcon-40b-tp2.sh": "falcon-40b",
    "mixtral-moe-tp-mode.sh": "mixtral",
    "qwen-function-script.sh": "qwen2",
    "deepseek-v1-experts.sh": "deepseek",
    "commandr.sh": "cohere",
    "module-build-and-abbreviations.sh": "opt",
    "draft-tokens-external.sh": "llama",
    "old-build-llama-7b.sh": "llama",
}
"""Cases -> stored checkpoints of the same architecture, small enough to plan whole."""


@pytest.mark.parametrize(("case", "checkpoint"), CHECKPOINTS.items())
def test_local_models_plan_cleanly(case: str, checkpoint: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(migrated(case, source=str(FIXTURES / checkpoint)).recipe, encoding="utf-8")
    # The stored checkpoints have few positions: as many of them as fit.
    overrides = ["engine.max_input_len=16", "engine.max_seq_len=32", "smoke.max_new_tokens=4"]
    overrides += ["engine.max_num_tokens=null", f"checkpoint.tp_size={_ranks(case)}"]
    loaded = load_recipe(path, overrides=overrides)
    hardware = Hardware(8, 1 << 40, (Gpu("H100", "sm90", 80 << 30, "580"),))
    memory = DigestMemory(tmp_path / "digests")
    plan = resolve(loaded, memory=memory, hardware=hardware, cache_dir=tmp_path)
    faults = [each.message for each in plan.problems if each.kind is RecipeError]
    # Their heads are smaller than those of any kernel, which is no fault of the recipe.
    assert [fault for fault in faults if "head size" not in fault] == []


def _ranks(case: str) -> int:
    """Ranks that the small checkpoint can be shared among."""
    return 2 if "tp2" in case or "moe" in case or "starcoder" in case else 1
