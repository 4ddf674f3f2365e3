"""What an ONNX file holds, and what TensorRT would make of its attention; no weight is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.artifact import Json
from pipeline.engines.tensorrt.facts import SOURCE
from pipeline.engines.tensorrt.onnx import MAX_OPSET, MIN_OPSET, is_imported
from pipeline.inspection.onnx_finding import Finding
from pipeline.inspection.onnx_sites import Site, attention_sites
from pipeline.inspection.onnx_traps import (
    VERDICTS,
    head_size,
    num_heads,
    site_dtypes,
    site_findings,
    verdict,
)
from pipeline.onnx_files.external import external_faults, sizes_beside
from pipeline.onnx_files.model import MAIN_DOMAIN, Model
from pipeline.onnx_files.reading import read_model
from pipeline.onnx_files.record import ATTENTION_OPS, graph_record

ONNX_SUFFIX = ".onnx"


def inspect_onnx(path: Path) -> dict[str, Json]:
    """One ONNX file. Raises VerificationError where it is no whole ONNX model."""
    model = read_model(path)
    size_of = sizes_beside(path)
    sites = [(site, site_findings(site)) for site in attention_sites(model)]
    findings = [*_file_findings(model), *(found for _, each in sites for found in each)]
    faults = external_faults(model, size_of)
    record = graph_record(model, size_of)
    weights = list(model.weights())
    return {
        "kind": "ONNX model",
        "size_bytes": path.stat().st_size,
        **{key: record[key] for key in ("producer", "opset", "opsets", "ir_version")},
        "functions": list(model.functions),
        "num_findings": len(findings) + len(faults),
        "attention": _attention([(site, verdict(site, found)) for site, found in sites]),
        "findings": _grouped(findings),
        "attention sites": [_site_row(site, found) for site, found in sites],
        "external data faults": list(faults),
        "external data": record["external_data"],
        "weights": {
            "num_tensors": len(weights),
            "size_bytes": sum(weight.num_bytes or 0 for weight in weights),
        },
        "inputs": record["inputs"],
        "outputs": record["outputs"],
        "operators": [
            {"domain": domain, "operator": op, "num_nodes": count}
            for domain, counts in record["op_counts"].items()
            for op, count in counts.items()
        ],
    }


def inspect_onnx_folder(files: Iterable[Path]) -> dict[str, Json]:
    """A folder with one ONNX file or several. Raises VerificationError."""
    documents = {path.name: inspect_onnx(path) for path in files}
    if len(documents) == 1:
        return {"file": next(iter(documents)), **next(iter(documents.values()))}
    return {
        "kind": "ONNX models",
        "num_findings": sum(document["num_findings"] for document in documents.values()),
        **documents,
    }


def _attention(verdicts: list[tuple[Site, str]]) -> dict[str, Json]:
    """How many sites there are, of which kinds, and what becomes of them."""
    order = [*VERDICTS.values(), "fused", "unknown"]
    counts = Counter(told for _, told in verdicts)
    return {
        "num_sites": len(verdicts),
        "kinds": dict(sorted(Counter(site.kind for site, _ in verdicts).items())),
        "in TensorRT": {told: counts[told] for told in order if counts[told]},
    }


def _site_row(site: Site, findings: list[Finding]) -> dict[str, Json]:
    return {
        "site": site.title,
        "kind": site.kind,
        "dtype": ", ".join(site_dtypes(site)) or None,
        "heads": num_heads(site),
        "head_size": head_size(site),
        "in TensorRT": verdict(site, findings),
        "because": ", ".join(finding.trap for finding in findings) or None,
    }


def _grouped(findings: Iterable[Finding]) -> list[Json]:
    """Findings that differ in their nodes alone, together; the worst effect first."""
    groups: dict[Finding, list[str]] = {}
    for found in findings:
        groups.setdefault(replace(found, nodes=()), []).extend(found.nodes)
    order = list(VERDICTS)
    return [
        {
            "finding": f"{found.trap}: {found.effect}",
            "what": found.what,
            "why": found.why,
            "hint": found.hint,
            "known from": found.source,
            "num_times": max(1, len(nodes)),
            "nodes": nodes,
        }
        for found, nodes in sorted(groups.items(), key=lambda item: order.index(item[0].effect))
    ]


def _file_findings(model: Model) -> Iterator[Finding]:
    """What concerns the whole file: its opset, and operators without an importer."""
    opset = model.opsets.get(MAIN_DOMAIN)
    if opset is not None and not MIN_OPSET <= opset <= MAX_OPSET:
        yield Finding(
            "opset",
            "risk",
            f"its opset is {opset}",
            f"TensorRT's parser is made for opset {MIN_OPSET} to {MAX_OPSET}",
            "export with opset 23 or 24",
            (),
            "TensorRT's ONNX opset guide, and its parser's warning",
        )
    yield from _not_imported(model)


def _not_imported(model: Model) -> Iterator[Finding]:
    """Operators that the parser does not know; those that attend have findings of their own."""
    found: dict[tuple[str, str], list[str]] = {}
    for _, graph in model.graphs():
        for node in graph.nodes:
            domain = "" if node.is_standard else node.domain
            attends = node.op in ATTENTION_OPS.get(node.domain, ())
            if not attends and not is_imported(domain, node.op):
                found.setdefault((domain, node.op), []).append(node.title)
    for (domain, op), nodes in sorted(found.items()):
        yield Finding(
            "operator",
            "refused",
            f"`{op}`{f' of {domain}' if domain else ''} has no importer",
            "TensorRT's parser does not know it; only a plugin of that name would make it",
            "export with standard operators",
            tuple(nodes),
            SOURCE,
        )
