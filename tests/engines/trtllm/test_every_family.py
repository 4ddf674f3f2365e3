"""Every stored checkpoint in every layout: the stand-in takes its command line and its weights.

The stand-in runs in this process here: it is the same code as the program.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.checkpoint.huggingface import SourceCheckpoint
from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.engines.trtllm.after_build import attention_layers, built_answer, check_engine
from pipeline.engines.trtllm.follow import BuildLog
from pipeline.engines.trtllm.request import build_request
from pipeline.families import find_family
from pipeline.progress import Silent
from pipeline.recipe.schema import EngineSettings
from pipeline.weights.layout import plan_conversion
from pipeline.weights.parallel import Parallelism
from tests.families.fixtures import FIXTURES, NAMES, layouts, open_fixture
from tests.standins import Standin
from tests.standins.trtllm_build import main, weights_of
from tests.weights.converting import convert

SETTINGS = EngineSettings(max_batch_size=2, max_input_len=24, max_seq_len=48)


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Standin:
    return Standin(tmp_path_factory.mktemp("machine") / "machine")


def _two_ranks_at_most(source: SourceCheckpoint) -> list[Parallelism]:
    """One rank, two tp ranks and, where the class is pipelined, two pp ranks."""
    plain = (Parallelism(), Parallelism(2), Parallelism(1, 2))
    return [found for found in layouts(source) if found in plain]


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_and_the_checkpoint_are_accepted(
    name: str, standin: Standin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = open_fixture(name)
    family = find_family(source.architecture)
    for number, parallelism in enumerate(_two_ranks_at_most(source)):
        made = plan_conversion(source, family, parallelism, "bfloat16")
        folder = convert(made, FIXTURES / name, tmp_path / f"checkpoint{number}")
        checkpoint, out = open_trtllm_checkpoint(folder), tmp_path / f"engine{number}"
        request = build_request(SETTINGS, checkpoint.config)
        assert request.world_size == parallelism.world_size
        timings = tmp_path / f"timings{number}"
        argv = request.argv(folder, out, input_timing_cache=None, output_timing_cache=timings)
        assert main(argv[1:], str(standin.folder)) == 0, capsys.readouterr().err
        log = BuildLog(tmp_path / f"log{number}", request.world_size, True, Silent())
        with log.open():
            for line in capsys.readouterr().out.splitlines():
                log.line("stdout", line)
        checked = check_engine(out, checkpoint, request, log, installed="1.2.1", rules=())
        answer = built_answer(SETTINGS, checkpoint, checked, log)
        assert answer["status"] == "fused"
        assert answer["attention_sites"] == attention_layers(checkpoint) > 0
        for rank in range(parallelism.num_files):
            weights = (folder / f"rank{rank}.safetensors").read_bytes()
            assert weights_of(out / f"rank{rank}.engine") == weights
