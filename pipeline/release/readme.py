"""`README.md` of a release: what it is, how to check it, what was executed, whose licence holds."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.artifact import Json
from pipeline.parity.record import logits_text
from pipeline.release.manifest import Licence, SourceIdentity

README_NAME = "README.md"

TEMPLATE = """\
# {name}

{what}

## Check it

    sha256sum -c SHA256SUMS      # every file, with nothing but coreutils
    trtllm-pack verify .         # the same, the manifest, and the fit to this machine
    trtllm-pack inspect .        # explain it

{rebuild}

## What is here

| path | content |
| --- | --- |
| `engine/` | the engine, its `engine.json`, and the attention proof `attention.json` |
| `tokenizer/` | tokenizer and chat template of the source |
| `source_config.json` | the source's `config.json` |
| `ledger.json` | what became of every source tensor and config key |
| `parity.json` | {parity} |
| `smoke.json` | the smoke test: prompts, expectations, generated text |
| `manifest.json` | from what this release was made, and every file with size and SHA-256 |

## Attention

{attention}

## Smoke test

{smoke}

{served}## Licence

{licence}
"""


def render_readme(
    name: str,
    source: SourceIdentity,
    licence: Licence,
    records: Mapping[str, Mapping[str, Json]],
    served: str = "",
) -> str:
    """The text, from the same records that the manifest holds. `served`: a section of its own."""
    return TEMPLATE.format(
        name=name,
        what=_what(source, records["engine"]),
        rebuild=_rebuild(records["build"]),
        parity=_parity(records["parity"]),
        attention=_attention(records["attention"]),
        smoke=_smoke(records["smoke"]),
        served=f"{served}\n" if served else "",
        licence=licence_text(licence, "The engine"),
    )


def origin_text(source: SourceIdentity) -> str:
    """Where a source checkpoint came from."""
    if source.repo is None:
        return "a local folder"
    site = " of ModelScope" if source.kind == "modelscope" else ""
    return f"`{source.repo}`{site} at `{source.commit}`"


def _what(source: SourceIdentity, engine: Mapping[str, Json]) -> str:
    origin = origin_text(source)
    targets = ", ".join(f"`{target}`" for target in engine.get("targets", []))
    return (
        f"A release made by trtllm-pack from {origin} ({len(source.files)} files, listed in "
        f"`manifest.json`).\nEngine backend `{engine['backend']}`, {engine['dtype']}"
        + (f", for {targets}." if targets else ".")
        + _graph(engine.get("graph"))
    )


def _graph(record: Mapping[str, Json] | None) -> str:
    """The ONNX graph of an engine that is one: any runtime of its opset can open it."""
    if record is None:
        return ""
    files = [f"`engine/{row['file']}`" for row in record["external_data"]]
    return (
        f"\nThe engine is the ONNX graph `engine/{record['file']}`: opset {record['opset']}, IR "
        f"version {record['ir_version']}, {record['attention_nodes']} attention operators"
        + (f",\nwith its weights in {', '.join(files)} beside it." if files else ".")
    )


def _rebuild(build: Mapping[str, Json]) -> str:
    """Whether the same inputs give the same engine, where the backend says so."""
    text = "The same recipe, source and tools (`lock` in `manifest.json`) give the same release"
    if build.get("bytes_pinned", True):
        return f"{text}, byte for byte."
    reason = build.get("bytes_pinned_reason") or "its builder does not promise them"
    return f"{text} but for the bytes of the engine: {reason}."


def _parity(record: Mapping[str, Json]) -> str:
    """What of the converted checkpoint was compared with the source."""
    weights = "the comparison of the converted weights with the source"
    return f"{weights}; {logits_text(record['logits'])}" if "logits" in record else weights


def _attention(proof: Mapping[str, Json]) -> str:
    built, observed = proof["built"], proof["observed"]
    reason = f": {observed['reason']}" if observed.get("reason") else ""
    return (
        f"- built: {built['status']}: {built['evidence']}\n- observed: {observed['status']}{reason}"
    )


def _smoke(record: Mapping[str, Json]) -> str:
    by = record["executed_by"]
    executor = by.get("note") or f"`{by['backend']}` {by['version']} on `{by['device']}`"
    num_expectations = sum(len(entry["expectations"]) for entry in record["prompts"])
    held = f"all {num_expectations} hold" if num_expectations else "none were given"
    lines = [f"Executed by: {executor}. Expectations: {held}.", ""]
    for entry in record["prompts"]:
        # An indented block shows any text as it is; the text goes on where its prompt ends.
        lines += [
            f"    {_visible(line)}" for line in (entry["prompt"] + entry["text"]).splitlines()
        ]
        lines.append("")
    return "\n".join(lines).rstrip()


def _visible(line: str) -> str:
    """A model may generate anything: terminal escapes must not reach a terminal by `cat`."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)


def licence_text(licence: Licence, holder: str) -> str:
    """Under which licence `holder`, which has the weights, may be passed on."""
    if not licence.files:
        return (
            "The source has no licence file. Find out under which licence the model may be passed "
            "on before you pass this release on."
        )
    names = ", ".join(f"[{name}]({name})" for name in licence.files)
    return f"{holder} holds the weights of the source, which come under {names}."
