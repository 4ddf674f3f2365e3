"""How `plan` tells the memory of an engine."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from pipeline.answers.plan_report import memory_lines
from pipeline.engines import find_engine
from pipeline.recipe.schema import EngineSettings
from tests.command import run_command
from tests.engines.trtllm.published_sizes import asked, llama_70b
from tests.families.fixtures import FIXTURES

MEMORY = {
    "tp_size": 4,
    "pp_size": 2,
    "targets": ["sm89"],
    "engine_bytes": 16_000_000_000,
    "host_memory_bytes": 9_000_000_000,
    "ranks": [
        {
            "pp_rank": 0,
            "kv_bytes_per_token": 4096,
            "total_bytes": 3_000_000_000,
            "terms": [
                {"name": "weights", "num_bytes": 2_000_000_000, "sure": "1.x"},
                {"name": "CUDA", "num_bytes": 1_000_000_000, "sure": "reported"},
            ],
        },
        {
            "pp_rank": 1,
            "kv_bytes_per_token": 2048,
            "total_bytes": 3_500_000_000,
            "terms": [
                {"name": "weights", "num_bytes": 2_000_000_000, "sure": "1.x"},
                {"name": "logits", "num_bytes": 500_000_000, "sure": "inferred"},
                {"name": "CUDA", "num_bytes": 1_000_000_000, "sure": "reported"},
            ],
        },
    ],
    "gpus": [
        {
            "name": name,
            "target": target,
            "memory_bytes": size * 10**9,
            "fits": fits,
            "smallest": layout and {"tp_size": layout[0], "pp_size": layout[1]},
        }
        for name, target, size, fits, layout in (
            ("L4", "sm89", 24, True, (2, 1)),
            ("L2", "sm89", 3, False, None),
            ("T4", "sm75", 2, False, (8, 2)),
            ("A10", "sm86", 24, True, (2, 1)),
            ("A40", "sm86", 48, True, (1, 1)),
        )
    ],
}
"""Of other targets than the recipe's, only the smallest GPU that holds the engine is shown."""

TOLD = """\
GPU memory of each rank at the asked limits, tp 4 x pp 2
  part                   pp rank 0  pp rank 1  how sure
  weights                2.0 GB     2.0 GB     read in 1.x
  CUDA                   1.0 GB     1.0 GB     reported
  logits                 -          500.0 MB   inferred
  all                    3.0 GB     3.5 GB
  KV cache of one token  4096 B     2048 B

GPUs by their memory alone
  GPU  target  memory   fits  smallest layout
  L4   sm89    24.0 GB  yes   tp 2 x pp 1
  L2   sm89    3.0 GB   no    none
  A10  sm86    24.0 GB  yes   tp 2 x pp 1

  engine files  16.0 GB
  host memory   9.0 GB for the build"""


def test_the_memory_of_an_engine_is_a_table_of_ranks_and_one_of_gpus() -> None:
    assert "\n".join(memory_lines(MEMORY)) == TOLD


def test_the_tables_are_made_of_the_report() -> None:
    settings = asked(targets=("sm80",))
    report = find_engine("trtllm").memory_report(llama_70b(), settings)
    lines = "\n".join(memory_lines(report)).splitlines()
    assert "  weights                141.1 GB   read in 1.x" in lines
    assert "  KV cache of one token  327680 B" in lines
    assert "  NVIDIA A100-SXM4-80GB  sm80    85.9 GB   no    tp 2 x pp 1" in lines
    assert "  NVIDIA H200            sm90    150.8 GB  yes   tp 1 x pp 1" in lines


def test_other_backends_do_not_know() -> None:
    for name in ("tensorrt", "onnxruntime"):
        assert find_engine(name).memory_report({}, EngineSettings(backend=name)) is None


def test_plan_has_it_for_the_backend_trtllm_alone(tmp_path: Path) -> None:
    recipe = {
        "name": "small",
        "source": {"path": str(FIXTURES / "llama")},
        "engine": {"backend": "trtllm", "max_input_len": 32, "max_seq_len": 64},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    arguments = ("plan", "small.yaml", "--store", "store")
    told = run_command(*arguments, cwd=tmp_path).stdout
    assert "GPU memory of each rank at the asked limits, tp 1 x pp 1" in told
    document = json.loads(run_command(*arguments, "--json", cwd=tmp_path).stdout)
    memory = document["engine"]["memory"]
    (rank,) = memory["ranks"]
    assert rank["kv_bytes_per_token"] == 2 * 3 * 2 * 8 * 2
    assert rank["terms"][0]["num_bytes"] > 40_000
    assert {stage["stage"]: stage["memory_bytes"] for stage in document["stages"]}["build"] == (
        memory["host_memory_bytes"]
    )
    other = run_command(*arguments, "--set", "engine.backend=onnxruntime", cwd=tmp_path).stdout
    assert "GPU memory" not in other
    assert "smoke" in other
