"""`README.md` of a release without an engine: how to check it, and how to serve it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pipeline.artifact import Json
from pipeline.release.manifest import Licence, SourceIdentity
from pipeline.release.pytorch_carry import Carriage, keys_in_vain
from pipeline.release.pytorch_options import RANK_KEYS
from pipeline.release.readme import licence_text, origin_text

TEMPLATE = """\
# {name}

A release made by trtllm-pack from {origin} ({num_files} files, listed in
`manifest.json`), for TensorRT-LLM 1.3 and later, which run models by PyTorch and have no engines.

## Check it

    sha256sum -c SHA256SUMS      # every file, with nothing but coreutils
    trtllm-pack verify .         # the same, and the manifest
    trtllm-pack inspect .        # explain it

The same recipe and source give the same release, byte for byte.

## Serve it

On a machine with {gpus} and TensorRT-LLM 1.3 or later, in this folder:

    trtllm-serve checkpoint --config serve.yaml

Releases that do not know `--config` have the same option as `--extra_llm_api_options`. Then:

    curl -s localhost:8000/v1/completions -H 'Content-Type: application/json' \\
      -d '{{"model": "checkpoint", "prompt": "Hello", "max_tokens": 16}}'

## What is here

| path | content |
| --- | --- |
| `checkpoint/` | the source checkpoint as it was fetched: weights ({quantization}), tokenizer |
| `serve.yaml` | options of `trtllm-serve`, from the recipe |
| `carried.json` | what became of every recipe key |
| `attention.json` | the attention proof: nothing was built or observed |
| `manifest.json` | from what this release was made, and every file with size and SHA-256 |

## Recipe keys

{idle}

## Attention

- built: {built}
- observed: {observed}

## Licence

{licence}
"""


def render_pytorch_readme(
    name: str,
    source: SourceIdentity,
    licence: Licence,
    records: Mapping[str, Mapping[str, Json]],
    carriage: Carriage,
) -> str:
    """The text, from the same records that the manifest holds."""
    options, attention = carriage.options, records["attention"]
    num_gpus = math.prod(options[key] for key in RANK_KEYS)
    stated = records["engine"]["quantization"]
    return TEMPLATE.format(
        name=name,
        origin=origin_text(source),
        num_files=len(source.files),
        gpus="a GPU" if num_gpus == 1 else f"{num_gpus} GPUs",
        quantization="not quantised" if stated == "none" else f"quantised: {stated}",
        idle=_idle_rows(carriage),
        built=f"{attention['built']['status']}: {attention['built']['evidence']}",
        observed=f"{attention['observed']['status']}: {attention['observed']['reason']}",
        licence=licence_text(licence, "This release"),
    )


def _idle_rows(carriage: Carriage) -> str:
    """Keys that the recipe sets in vain, each with the reason."""
    idle = carriage.idle
    rows = [f"- `{key}`: {idle[key]['because']}" for key in keys_in_vain(idle)]
    if not rows:
        return "`serve.yaml` has all that the recipe sets."
    heading = "`serve.yaml` has what `trtllm-serve` can be told; these keys have no meaning for it:"
    return "\n".join([heading, "", *rows])
