"""The comparison of logits as a whole: transformers, then the graph, then what to say of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pipeline.artifact import Json
from pipeline.checkpoint.trtllm import TrtllmCheckpoint
from pipeline.errors import PipelineError, VerificationError
from pipeline.parity.bisection import first_departure
from pipeline.parity.record import PHASES, told_layers
from pipeline.parity.reference import SourceModel, reference_logits
from pipeline.parity.sequences import TokenSequence, num_decoded
from pipeline.parity.thresholds import Thresholds
from pipeline.parity.truncation import first_layers, place_layer
from pipeline.progress import Progress

if TYPE_CHECKING:
    from pipeline.parity.comparison import Comparison, Figures, Logits

HINT = (
    "do not use this checkpoint, and report these facts; where rounding alone can explain them, "
    "set `verify.min_cosine`, `verify.max_norm_error` and `verify.max_relative_error`"
)


@dataclass(frozen=True, slots=True)
class LogitsCheck:
    """What is compared: a source, its converted checkpoint, sequences, layers, thresholds.

    `num_layers`: the first so many are executed. `rounded_to`: the type to which conversion rounded
    weights, None where it lost nothing of them.
    """

    source: SourceModel
    checkpoint: TrtllmCheckpoint
    sequences: Sequence[TokenSequence]
    num_layers: int
    allowed: Thresholds
    rounded_to: str | None = None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """One comparison, by phase, and who computed."""

    comparisons: Mapping[str, Comparison]
    reference: Mapping[str, Json]
    executed_by: Mapping[str, str]

    @property
    def agrees(self) -> bool:
        return all(comparison.agrees for comparison in self.comparisons.values())


def compare_logits(check: LogitsCheck, progress: Progress) -> dict[str, Json]:
    """Execute both checkpoints on the same tokens; the record of how far they are apart, JSON.

    Prefill is compared at all positions, decoding at the last ones. Raises VerificationError where
    a threshold does not hold anywhere, with the first layer after which the two depart; ToolFailed,
    RecipeError or ResourceError where one of them cannot be executed.
    """
    progress.start("comparing logits", 2, "models")
    outcome = _compare(check, check.num_layers, progress.advance)
    if not outcome.agrees:
        raise _departed(check, outcome, progress)
    return {
        "layers": check.num_layers,
        "of_layers": check.source.num_layers,
        "sequences": [{"name": one.told, "tokens": len(one.token_ids)} for one in check.sequences],
        "reference": dict(outcome.reference),
        "executed_by": {key: outcome.executed_by[key] for key in ("backend", "version", "device")},
        "thresholds": asdict(check.allowed),
        **{phase: one.record() for phase, one in outcome.comparisons.items()},
    }


def _compare(check: LogitsCheck, num_layers: int, done: Callable[[int], None]) -> _Outcome:
    """Compare the first `num_layers` layers; `done` is called with 1 after each model."""
    from pipeline.parity.comparison import compare
    from pipeline.parity.execution import graph_logits

    tokens = [one.token_ids for one in check.sequences]
    reference = reference_logits(check.source, tokens, num_layers)
    done(1)
    graph = graph_logits(first_layers(check.checkpoint, num_layers), tokens)
    done(1)
    _check_widths(graph.prefill, reference.logits)
    last = [
        logits[len(logits) - len(decoded) :]
        for logits, decoded in zip(reference.logits, graph.decoded, strict=True)
    ]
    found = (
        compare(graph.prefill, reference.logits, check.allowed),
        compare(graph.decoded, last, check.allowed),
    )
    return _Outcome(dict(zip(PHASES, found, strict=True)), reference.executed_by, graph.executed_by)


def _check_widths(found: Sequence[Logits], expected: Sequence[Logits]) -> None:
    ours, theirs = found[0].shape[1], expected[0].shape[1]
    if ours != theirs:
        raise VerificationError(
            f"the converted checkpoint has {ours} logits a token, the source {theirs}", hint=HINT
        )


def _departed(check: LogitsCheck, outcome: _Outcome, progress: Progress) -> VerificationError:
    """The error that says where and by how much, and after which layer."""
    facts = []
    for phase, comparison in outcome.comparisons.items():
        worst = _told(comparison.worst, check.allowed)
        facts.append(f"{phase}, worst of {comparison.num_positions} positions: {worst}")
        facts += _place_facts(check, phase, comparison)
    if check.rounded_to is not None:
        facts.append(
            f"conversion rounded weights to {check.rounded_to}; with `checkpoint.dtype: float32` "
            "it would not, and a fault could be told from rounding"
        )
    return VerificationError(
        "the converted checkpoint does not compute what transformers computes with the source",
        facts=[*facts, _layer_fact(check, progress)],
        hint=HINT,
    )


def _place_facts(check: LogitsCheck, phase: str, comparison: Comparison) -> list[str]:
    """The first position that is beyond a threshold, if any is."""
    if comparison.first is None:
        return []
    sequence = check.sequences[comparison.first.sequence]
    num_tokens, position = len(sequence.token_ids), comparison.first.position
    if phase == "decoding":  # only the last tokens are
        position += num_tokens - num_decoded(num_tokens)
    where = f"position {position} of the {num_tokens} of sequence `{sequence.told}`"
    return [f"{phase}: first beyond a threshold at {where}"]


def _layer_fact(check: LogitsCheck, progress: Progress) -> str:
    """The first layer after which the logits depart, found by executing fewer layers."""

    def agrees(num_layers: int) -> bool:
        progress.note(f"the logits differ; comparing {told_layers(num_layers)} alone")
        return _compare(check, num_layers, lambda _: None).agrees

    try:
        departed = first_departure(agrees, check.num_layers)
    except PipelineError as error:
        return f"which layer makes the difference could not be found out: {error.message}"
    layer = departed - 1
    where = place_layer(check.checkpoint.config, layer)
    if layer == 0:
        return (
            f"already the first layer alone differs: layer 0 ({where}), or what is around all "
            "layers (embedding, final norm, head), or a key of config.json about all layers"
        )
    agrees_before = f"{told_layers(layer)} agree{'s' if layer == 1 else ''}"
    return f"{agrees_before}; layer {layer} makes the difference ({where})"


def _told(figures: Figures, allowed: Thresholds) -> str:
    return (
        f"cosine {figures.cosine:.6f} (at least {allowed.min_cosine:g}), "
        f"norm off by {figures.norm_error:.2g} (at most {allowed.max_norm_error:g}), "
        f"relative error {figures.relative_error:.2g} (at most {allowed.max_relative_error:g})"
    )
