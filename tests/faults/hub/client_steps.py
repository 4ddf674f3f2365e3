"""A plan and a download through our code, in the child process: the one place that calls it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import huggingface_hub.file_download
import huggingface_hub.hf_api

import pipeline.answers.run_report
import pipeline.checkpoint.huggingface
import pipeline.cli.carry_out
import pipeline.plan
import pipeline.run
from pipeline import __main__ as command_line
from pipeline.progress import Silent
from pipeline.sources.hub import quiet
from pipeline.sources.hub.client import HubClient
from pipeline.sources.hub.repo import open_hub
from pipeline.sources.remote.memory import RepoMemory
from tests.faults.hub.client_truth import planned
from tests.tiny_source import REPO

LOADED = (huggingface_hub, pipeline)
"""All that a step needs is imported before the first one is forked."""

# So that files of this size are resumed as large ones are.
quiet.CHUNK_BYTES = dict.fromkeys(quiet.CHUNK_BYTES, 16 << 10)


class Notes(Silent):
    """Keeps what is told."""

    def __init__(self, kept: list[str]) -> None:
        self.kept = kept

    def note(self, message: str) -> None:
        self.kept.append(message)


def plan_and_fetch(order: dict[str, Any], root: Path, answer: dict[str, Any]) -> None:
    """Plan, then download; `answer` gets the phase that was reached, and what the plan knows."""
    client = HubClient(REPO, endpoint=order["endpoint"], cache_dir=root / "cache")
    source = open_hub(client, order["revision"], RepoMemory(root / "store", REPO))
    answer["commit"] = source.listing.commit
    answer["plan"] = planned(source.checkpoint())
    answer["phase"] = "fetch"
    out = root / "out" / order["out"]
    out.mkdir(parents=True)
    answer["files"] = source.fetch(out, Notes(answer["notes"]))
    answer["phase"] = "done"


def run_command(order: dict[str, Any], root: Path, answer: dict[str, Any]) -> None:
    """`trtllm-pack download`, as the command line has it, with the document on standard output."""
    out = root / "out" / order["out"]
    arguments = ["download", str(root / "recipe.yaml"), "--json"]
    arguments += ["--store", str(root / "store"), "--out", str(out)]
    if order["revision"]:
        arguments += ["--set", f"source.revision={order['revision']}"]
    sys.argv = ["trtllm-pack", *arguments]
    try:
        command_line.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    sys.stdout.flush()
    sys.stderr.flush()
    document = json.loads((root / "told").read_text())
    (root / "told").write_text("")
    if code == 0:
        facts = document["stages"][0]["facts"]
        answer |= {"commit": facts["commit"], "files": facts["files"], "phase": "done"}
    else:
        error = document["error"]
        answer |= {name: error[name] for name in ("kind", "message", "hint", "facts", "exit_code")}
        assert code == error["exit_code"], f"exit code {code}, told {error['exit_code']}"
