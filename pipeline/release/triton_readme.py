"""The part of a release's README about Triton: which image, how to start it, a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.artifact import Json
from pipeline.release.triton import FOLDER
from pipeline.release.triton_engine import ServedEngine, read_served_engine
from pipeline.trtllm.facts import facts

if TYPE_CHECKING:
    from pipeline.recipe.schema import Serving

IMAGE = "nvcr.io/nvidia/tritonserver:{line}-trtllm-python-py3"

TEMPLATE = """\
## Serve it with Triton

`{folder}/` is a Triton model repository for the engine; its model `ensemble` takes text. It needs
an image with TensorRT-LLM {version}, neither older nor newer{image_note}. Start it in
this folder, to which the paths in `config.pbtxt` are relative:

    docker run --rm -it --gpus all --shm-size 2g --network host \\
      -v "$PWD":/release:ro -w /release {image} bash

and there, with one process for each of {gpus}:

{start}

Then:

    curl -s localhost:8000/v2/models/ensemble/generate \\
      -d '{{"text_input": "Hello", "max_tokens": 16}}'

- limits: {max_batch_size} sequences at once, prompts up to {max_input_len} tokens, prompt and
  output together up to {max_seq_len}, {beams}
- {streaming}
- the two Python models are this project's own code; `tensorrt_llm_bls`, inputs for images and
  guided decoding are not included
- Triton did not run when this release was made: its files were checked against the engine only
"""


def triton_section(config: Mapping[str, Json], serving: Serving) -> str:
    """The section, from an engine's config.json. Raises VerificationError as its reader does."""
    engine = read_served_engine(config)
    one_beam = engine.max_beam_width == 1
    return TEMPLATE.format(
        folder=FOLDER,
        version=engine.version,
        image=IMAGE.format(line=serving.triton_image or "YY.MM"),
        image_note="" if serving.triton_image else _image_note(engine),
        gpus="1 GPU" if engine.world_size == 1 else f"{engine.world_size} GPUs",
        start="\n".join(f"    {line}" for line in start_lines(engine.world_size)),
        max_batch_size=engine.max_batch_size,
        max_input_len=engine.max_input_len,
        max_seq_len=engine.max_seq_len,
        beams="no beam search" if one_beam else f"up to {engine.max_beam_width} beams",
        streaming="clients may ask for `stream`, over gRPC"
        if serving.streaming
        else "no streaming: it needs `package.serving.streaming: true` in the recipe",
    )


def _image_note(engine: ServedEngine) -> str:
    """Lines that are known, so that nobody tries those of another version."""
    known = sorted(facts()["triton_images"].items())
    fits = [line for line, version in known if version == engine.version]
    if fits:
        return f" (line {fits[-1]} has it)"
    others = ", ".join(f"{line} has {version}" for line, version in known)
    return f"\n(put its line in place of `YY.MM`; {others})"


def start_lines(world_size: int) -> list[str]:
    """The command line of a server: one process a rank, of which only the first answers requests.

    Source: TensorRT-LLM, read at 1.3.0rc3 (soon after 1.2),
    `triton_backend/scripts/launch_triton_server.py`.
    """
    common = f"tritonserver --model-repository={FOLDER} --disable-auto-complete-config"
    if world_size == 1:
        return [common]
    lines = ["mpirun --allow-run-as-root \\"]
    for rank in range(world_size):
        own = "" if rank == 0 else " --model-control-mode=explicit --load-model=tensorrt_llm"
        shared = f"--backend-config=python,shm-region-prefix-name=rank{rank}_"
        end = " : \\" if rank < world_size - 1 else ""
        lines.append(f"  -n 1 {common}{own} {shared}{end}")
    return lines
