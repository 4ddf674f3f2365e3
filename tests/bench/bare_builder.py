"""The ONNX parser and the builder of TensorRT alone: what the Python API asks for, no more.

`python -m tests.bench.bare_builder GRAPH JOB OUT`, with the targets and profiles of a job of ours.
Prints its peak memory in KiB.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pipeline.engines.tensorrt.api import create_network, find_flavour, load_api
from pipeline.engines.tensorrt.config import add_profiles
from tests.bench.children import own_peak


def main(graph: str, job_path: str, out: str) -> None:
    """See the module."""
    flavour = find_flavour()
    assert flavour is not None
    trt = load_api(flavour)
    job = json.loads(Path(job_path).read_bytes())
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = create_network(trt, builder)
    parser = trt.OnnxParser(network, log)
    assert parser.parse_from_file(graph)
    config = builder.create_builder_config()
    config.num_compute_capabilities = len(job["targets"])
    for number, target in enumerate(job["targets"]):
        config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), number)
    add_profiles(builder, network, config, job["profiles"])
    engine = builder.build_serialized_network(network, config)
    with Path(out).open("wb") as stream:
        stream.write(engine)
    sys.stdout.write(f"\n{own_peak()}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
