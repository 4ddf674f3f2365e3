"""A stand-in for `trtllm-build` of TensorRT-LLM 1.2: same interface, stricter, no GPU work.

Source of the order, the lines and the files: TensorRT-LLM 1.x `commands/build.py`, `builder.py`,
`_common.py`, `logger.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pipeline.artifact import Json
from tests.standins.arguments import parse_arguments
from tests.standins.changes import apply_changes
from tests.standins.checkpoint import Refused, check_weights, load_config
from tests.standins.configs import build_config, plugin_config

ENGINE_MAGIC = b"stand-in engine\n"
TIMINGS_MAGIC = b"stand-in timings\n"
STEPS = ("load", "network", "engine", "save")
"""Of each rank, in order: where a knob can strike."""


@dataclass(frozen=True)
class Control:
    """Knobs. `die`, `hang`: at a step of a rank (`how`: exception, abort, kill, or an exit code).

    `fallback`: text of a C++ warning of every rank. `cpp`, `python`: more lines, by level letter.
    `force`: options that end otherwise than asked, by name. `config`: keys of the engine's
    pretrained_config that end otherwise. `leave_out`, `empty`, `extra`: numbers of rank files.
    `seconds`: how long each rank takes. `grandchild`: start processes that stay behind, one of them
    in a session of its own. `only_errors`: as with a log level that hides warnings.
    """

    fallback: str | None = None
    lines: tuple[tuple[str, str], ...] = ()
    die: Mapping[str, Any] = field(default_factory=dict)
    hang: Mapping[str, Any] = field(default_factory=dict)
    force: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    version: str = "1.2.1"
    leave_out: tuple[int, ...] = ()
    empty: tuple[int, ...] = ()
    extra: tuple[str, ...] = ()
    seconds: float = 0.0
    grandchild: bool = False
    only_errors: bool = False


def weights_of(engine_file: Path) -> bytes:
    """The bytes of the rank's weight file, from a rank file of this stand-in's."""
    data = engine_file.read_bytes()
    assert data.startswith(ENGINE_MAGIC)
    return data.removeprefix(ENGINE_MAGIC)


def main(argv: Sequence[str], folder: str) -> int:
    """Build all ranks; exit code 0, 1 after a traceback, 2 for a wrong command line."""
    machine = Path(folder)
    control = Control(**json.loads((machine / "control.json").read_bytes()))
    with (machine / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps({"argv": list(argv), "environment": dict(os.environ)}) + "\n")
    _out(f"[TensorRT-LLM] TensorRT LLM version: {control.version}")
    arguments = parse_arguments(argv)
    try:
        _build_all(arguments, machine, control)
    except Refused as error:
        _err(f"Traceback (most recent call last):\n{error}")
        return 1
    except Exception:  # noqa: BLE001 - as Python itself would
        traceback.print_exc()
        return 1
    return 0


def _build_all(arguments: argparse.Namespace, machine: Path, control: Control) -> None:
    Path(arguments.output_dir).mkdir(parents=True, exist_ok=True)
    gpus = _visible_gpus(machine)
    if control.grandchild:
        for alone in (False, True):
            subprocess.Popen(["sleep", "1000"], start_new_session=alone)
    say = _Log(control).say
    if "TLLM_LOG_LEVEL" in os.environ:
        say("W", "Logger level already set from environment. Discard new verbosity: info")
    plugin = plugin_config(arguments, say)
    config = load_config(Path(arguments.checkpoint_dir))
    if arguments.logits_dtype:
        config["logits_dtype"] = arguments.logits_dtype
    if arguments.multiple_profiles == "enable" and arguments.opt_num_tokens is not None:
        raise RuntimeError("multiple_profiles is enabled, while opt_num_tokens is set.")
    if arguments.gather_context_logits and arguments.max_draft_len > 0:
        raise RuntimeError("Gather context logits is not support with draft len > 0.")
    build = build_config(arguments)
    sm = int(gpus[0]["compute_cap"].replace(".", ""))
    jobs = [
        (rank, arguments, config, build, plugin, sm, control)
        for rank in range(config["mapping"]["world_size"])
    ]
    workers = min(arguments.workers, len(gpus))
    if workers == 1:
        for job in jobs:
            build_rank(*job)
    else:
        _build_at_once(jobs, workers)
    say("I", "Total time of building all engines: 00:00:12")


def _visible_gpus(machine: Path) -> list[dict[str, str]]:
    gpus = json.loads((machine / "gpus.json").read_bytes())
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        gpus = [gpu for entry in chosen.split(",") for gpu in gpus if gpu["uuid"] == entry]
    if not gpus:
        raise RuntimeError("no CUDA-capable device is detected")
    return gpus


def _build_at_once(jobs: Sequence[tuple[Any, ...]], workers: int) -> None:
    """Every rank is tried, also after one has failed."""
    failed = 0
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        futures = [pool.submit(build_rank, *job) for job in jobs]
        for future in as_completed(futures):
            try:
                future.result()
            except Exception:  # noqa: BLE001 - as the real program
                traceback.print_exc()
                failed += 1
    assert not failed, "Engine building failed, please check error log."


def build_rank(
    rank: int,
    arguments: argparse.Namespace,
    config: dict[str, Json],
    build: dict[str, Json],
    plugin: dict[str, Json],
    sm: int,
    control: Control,
) -> bool:
    """Load, check and write one rank."""
    log, out = _Log(control), Path(arguments.output_dir)
    build, plugin = dict(build), dict(plugin)
    _step(control, "load", rank)
    weights = check_weights(Path(arguments.checkpoint_dir), config, rank)
    apply_changes(config, build, plugin, sm, log.say)
    given = arguments.input_timing_cache
    if given is not None and not Path(given).exists():
        log.say("W", "Invalid timing cache, using freshly created one")
    timings = Path(given).read_bytes() if given is not None and Path(given).exists() else b""
    if timings and not timings.startswith(TIMINGS_MAGIC):
        _err("    assert cache is not None and isinstance(cache, trt.ITimingCache)")
        raise AssertionError
    _step(control, "network", rank)
    log.say("I", "Total time of constructing network from module object 2.345 seconds")
    log.say("I", "Total optimization profiles added: 1")
    log.say("I", "Total time to initialize the weights in network Unnamed Network 0: 00:00:00")
    log.say("I", "Build TensorRT engine Unnamed Network 0")
    if control.fallback is not None:
        log.cpp("WARNING", control.fallback)
    for level, text in control.lines:
        log.cpp(level, text) if level.isupper() and len(level) > 1 else log.say(level, text)
    _step(control, "engine", rank)
    log.say("I", "Total time of building Unnamed Network 0: 00:00:05")
    if rank == 0:
        Path(arguments.output_timing_cache).write_bytes((timings or TIMINGS_MAGIC) + b"one more\n")
        log.say("I", f"Timing cache serialized to {arguments.output_timing_cache}")
    log.say("I", "Build phase peak memory: 1234.56 MB, children: 0.00 MB")
    _save(rank, out, weights, config, build, plugin, control, log)
    return True


def _save(
    rank: int,
    out: Path,
    weights: Path,
    config: Json,
    build: Json,
    plugin: Json,
    control: Control,
    log: _Log,
) -> None:
    if rank == 0:
        lora = build.pop("lora_config")
        found = {**build, "lora_config": lora, "plugin_config": plugin}
        for name, value in control.force.items():
            part = plugin if name in plugin else found
            part[name] = value
        document = {
            "version": control.version,
            "pretrained_config": {**config, **control.config},
            "build_config": found,
        }
        (out / "config.json").write_text(json.dumps(document, indent=4))
    _step(control, "save", rank)
    log.say("I", f"Serializing engine to {out}/rank{rank}.engine...")
    if rank not in control.leave_out:
        with (out / f"rank{rank}.engine").open("wb") as target:
            if rank not in control.empty:
                target.write(ENGINE_MAGIC)
                with weights.open("rb") as source:
                    shutil.copyfileobj(source, target)
    if plugin["manage_weights"]:
        shutil.copyfile(weights, out / f"rank{rank}_managed_weights.safetensors")
    for name in control.extra:
        (out / name).write_bytes(b"x")
    log.say("I", "Engine serialized. Total time: 00:00:00")


def _step(control: Control, step: str, rank: int) -> None:
    """Where time passes, and where the knobs strike."""
    time.sleep(control.seconds / len(STEPS))
    here = {"step": step, "rank": rank}
    if here.items() <= control.hang.items():
        time.sleep(1000)
    if here.items() <= control.die.items():
        how = control.die["how"]
        if how == "abort":
            what = "[TensorRT-LLM][ERROR] Assertion failed: " + control.die["text"]
            _err("terminate called after throwing an instance of")
            _err(f"  what():  {what} (/src/attentionOp.cpp:2649)")
            os.abort()
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(how, int):
            os._exit(how)
        raise RuntimeError(control.die.get("text", "as the knob says"))


class _Log:
    """Lines as `logger.py` and `logger.h` write them."""

    def __init__(self, control: Control) -> None:
        self._only_errors = control.only_errors

    def say(self, level: str, text: str) -> None:
        if not self._only_errors:
            stamp = time.strftime("%m/%d/%Y-%H:%M:%S")
            _out(f"[{stamp}] [TRT-LLM] [{level}] {text}")

    def cpp(self, level: str, text: str) -> None:
        write = _err if level in {"WARNING", "ERROR"} else _out
        write(f"[TensorRT-LLM][{level}] {text}")


def _out(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _err(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
