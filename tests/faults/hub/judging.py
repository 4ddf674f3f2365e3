"""What must be true of every case, whatever hub, CDN and network do. Each rule is one function."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

from pipeline import errors
from tests.faults.hub.cases import HARMLESS, TOKEN
from tests.faults.hub.client_truth import truth_of
from tests.faults.hub.content import needed_names
from tests.faults.hub.playing import Played, Step
from tests.faults.hub.settings import FAILS, TOLD
from tests.hub_emulator import SIGNATURE, HubEmulator

MAX_REQUESTS_A_FILE = 60
"""Two fetches (wrong content is fetched again) of five attempts, each at most six requests."""

MAX_REQUESTS = 200
"""A run without faults makes 22: here are nine files, of which up to three are faulty."""

MAX_MEMORY_KB = 256 << 10
DEADLINE_S = 300.0
"""`RetryPolicy.deadline_s`; files here are so small that their size adds nothing."""

ONE_ATTEMPT_S = 90.0
"""What a single attempt may take until its own time-outs end it."""

SLACK_S = 120.0
"""By the fast clock this is eight seconds of a machine that is busy with other things."""


def violations(played: Played, hub: HubEmulator) -> list[str]:
    """What is wrong with a case, one line each; empty where all is well."""
    rules = (_outcome, _artifact, _told, _secrets, _bounds, _places)
    steps = [played.first, *played.later]
    found = [fault for step in steps for rule in rules for fault in rule(step, played, hub)]
    return [*found, *_promise(played), *_afterwards(played)]


def _outcome(step: Step, played: Played, _: HubEmulator) -> Iterator[str]:
    """One of our errors, of a kind that fits; never a crash."""
    kind = step.answer["kind"]
    if kind == "ok":
        return
    if kind in {"crash", "hang"}:
        yield f"{kind}: {step.answer.get('traceback', '')}"
        return
    allowed = {errors.RemoteError, errors.VerificationError}
    allowed |= {each for kind in played.case.kinds for each in kind.errors}
    if getattr(errors, kind) not in allowed or step.answer["exit_code"] == 1:
        yield f"wrong kind of error: {kind}: {step.answer['message']}"
    if not step.answer["hint"]:
        yield f"no hint: {step.answer['message']}"


def _artifact(step: Step, played: Played, hub: HubEmulator) -> Iterator[str]:
    """Every file that was placed is right; after success all are there, as the plan said."""
    answer = step.answer
    for folder in (played.root / "out").iterdir():
        placed = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        placed.pop("artifact.json", None)  # ours, of the exported artifact
        for name, path in placed.items():
            content = path.read_bytes()
            if not any(repo.files.get(name) == content for repo in hub.history.values()):
                yield f"wrong content placed: {name}"
    if answer["kind"] != "ok":
        return
    repo = hub.history.get(answer["commit"])
    if repo is None:
        yield f"success with the commit {answer['commit']}, which does not exist"
        return
    names = [file["name"] for file in answer["files"]]
    hidden = step is played.first and any(kind.hides for kind in played.case.kinds)
    if names != needed_names() and not (hidden and set(names) < set(needed_names())):
        yield f"success with other files: {names}"
    for file in answer["files"]:
        if file["sha256"] != hashlib.sha256(repo.files[file["name"]]).hexdigest():
            yield f"success with a wrong digest of {file['name']}"
    if answer.get("plan") not in {None, truth_of(repo.files)}:
        yield "success with a plan that is not of these files"


def _told(step: Step, played: Played, _: HubEmulator) -> Iterator[str]:
    """Nothing is printed; by a command, only its events."""
    for line in step.said.splitlines():
        if not played.case.command or not line.startswith('{"event"'):
            yield f"printed: {line[:300]}"


def _secrets(step: Step, played: Played, hub: HubEmulator) -> Iterator[str]:
    """The token goes to the hub alone; neither it nor a signature is told or kept."""
    for request in step.requests:
        if request.server == "hub":
            continue
        if "authorization" in request.headers or TOKEN in f"{request.path}{request.headers}":
            yield f"the token went to {request.server}: {request.method} {request.path}"
    answer = {k: v for k, v in step.answer.items() if k not in {"traceback", "outside"}}
    for secret in (TOKEN, SIGNATURE):
        if secret in str(answer):
            yield f"`{secret[:8]}` is told: {answer}"
    for path in (played.root / "store").rglob("*"):
        if path.is_file() and TOKEN.encode() in path.read_bytes():
            yield f"the token is kept in {path.name}"
    if hub.crashes:
        yield f"the emulator broke: {hub.crashes.pop()}"


def _bounds(step: Step, played: Played, _: HubEmulator) -> Iterator[str]:
    """Requests, time and memory."""
    asked = Counter(f"{r.path.partition('?')[0].rpartition('/')[2]}" for r in step.requests)
    for name, count in asked.items():
        if count > MAX_REQUESTS_A_FILE:
            yield f"{count} requests for {name[:80]}"
    if len(step.requests) > MAX_REQUESTS:
        yield f"{len(step.requests)} requests"
    if step.answer.get("memory_kb", 0) > MAX_MEMORY_KB:
        yield f"{step.answer['memory_kb'] >> 10} MB of memory"
    if step.answer.get("slept_s", 0) > DEADLINE_S:
        yield f"slept {step.answer['slept_s']:.0f} s at once"
    # One call may use up its deadline, which ends the run; each fault may cost others an attempt.
    limit = DEADLINE_S + ONE_ATTEMPT_S * (1 + len(played.case.faults)) + SLACK_S
    if step.answer.get("elapsed_s", 0) > limit:
        yield f"took {step.answer['elapsed_s']:.0f} s"


def _places(step: Step, *_: object) -> Iterator[str]:
    outside = step.answer.get("outside")
    if outside:
        yield f"written outside of cache, store and out: {outside[:5]}"


def _promise(played: Played) -> Iterator[str]:
    """What the faults of the case allow of the first run."""
    answer, promise = played.first.answer, played.case.promise
    if promise == HARMLESS and answer["kind"] != "ok":
        yield f"failed though it could succeed: {_short(answer)}"
    if promise == FAILS and answer["kind"] == "ok":
        yield "succeeded though it could not"
    words = TOLD.get(played.case.setting, "")
    if answer["kind"] != "ok" and not played.case.faults and words not in _short(answer):
        yield f"does not speak of `{words}`: {_short(answer)}"


def _afterwards(played: Played) -> Iterator[str]:
    """Without the faults it works, and what was finished is not fetched again."""
    answer = played.later[-1].answer
    if answer["kind"] != "ok":
        yield f"does not recover: {_short(answer)}; before: {_short(played.first.answer)}"
        return
    if played.first.answer.get("commit") != answer["commit"]:
        return
    for request in played.later[0].requests:
        name = request.path.partition("?")[0].rpartition("/")[2]
        if request.method == "GET" and name in played.finished:
            yield f"fetched again: {request.server} {name}"


def _short(answer: dict[str, object]) -> str:
    return " | ".join(str(answer.get(k)) for k in ("kind", "phase", "message", "hint", "facts"))
