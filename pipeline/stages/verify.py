"""Stage `verify`: the converted checkpoint is taken apart again and compared with its source.

Where the recipe asks for it, both are also executed and their logits compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import Json, write_json
from pipeline.checkpoint.trtllm import open_trtllm_checkpoint
from pipeline.errors import RecipeError, VerificationError
from pipeline.installed import installed
from pipeline.parity.logits import LogitsCheck, compare_logits
from pipeline.parity.record import logits_text
from pipeline.parity.reference import SourceModel
from pipeline.parity.sequences import (
    DEFAULT_TEXT,
    TokenSequence,
    random_sequences,
    text_sequences,
)
from pipeline.parity.thresholds import choose, has_rounded
from pipeline.plan import Plan
from pipeline.plan_problems import has_tokenizer
from pipeline.progress import Progress
from pipeline.stages.stage import Inputs, Stage
from pipeline.tokenizer import encode, load_tokenizer
from pipeline.weights.roundtrip import compare

PARITY_NAME = "parity.json"

LOGITS_TOOLS = ("numpy", "onnxruntime", "tokenizers", "torch", "transformers")
"""What decides the figures beside the checkpoints."""


def settings(plan: Plan) -> Json:
    """The family's statement of what a rank file holds; all else is in the inputs' keys.

    Where logits are compared, also how, and by which versions.
    """
    rules = {"rules": plan.conversion.family.digest()}
    verify = plan.recipe.verify
    if not verify.logits:
        return rules
    code = plan.recipe.source.remote_code
    logits = {"logits": verify.model_dump(mode="json"), **({"code": dict(code)} if code else {})}
    return {**rules, **logits, "tools": installed(LOGITS_TOOLS)}


def run(plan: Plan, inputs: Inputs, out_dir: Path, progress: Progress) -> Mapping[str, Json]:
    """Write the parity record. Raises VerificationError naming every tensor that does not match,
    or the first layer that makes the logits differ.
    """
    download, convert = inputs["download"].path, inputs["convert"].path
    record = {"structure": compare(plan.conversion, download, convert, progress)}
    if plan.recipe.verify.logits:
        check = _logits_check(plan, record["structure"], download, convert)
        record["logits"] = compare_logits(check, progress)
    write_json(out_dir / PARITY_NAME, record)
    return record


def _logits_check(plan: Plan, structure: Json, download: Path, convert: Path) -> LogitsCheck:
    """What the recipe wants compared of these two checkpoints."""
    verify, conversion = plan.recipe.verify, plan.conversion
    num_layers: int = conversion.config["num_hidden_layers"]
    return LogitsCheck(
        SourceModel(
            download,
            num_layers,
            tuple(sorted(conversion.coverage.dropped)),
            plan.recipe.source.remote_code,
        ),
        open_trtllm_checkpoint(convert),
        _sequences(plan, download),
        num_layers if verify.layers == "all" else verify.layers,
        choose(verify, structure, conversion.dtype),
        conversion.dtype if has_rounded(structure, conversion.dtype) else None,
    )


def _sequences(plan: Plan, source_dir: Path) -> list[TokenSequence]:
    """Random tokens, then the recipe's texts; the default one is cut where it is too long.

    Raises RecipeError where a text does not fit the model, VerificationError where the tokenizer
    does not.
    """
    verify, config = plan.recipe.verify, plan.conversion.config
    made = random_sequences(config["vocab_size"], verify.prompts, verify.tokens, verify.seed)
    if verify.texts == () or not has_tokenizer(plan.source):
        return made
    tokenizer = load_tokenizer(source_dir)
    if verify.texts is None:
        texts = [encode(tokenizer, DEFAULT_TEXT)[: verify.tokens]]
    else:
        texts = [encode(tokenizer, text) for text in verify.texts]
    _check_texts(texts, config)
    return [*made, *text_sequences(texts)]


def _check_texts(texts: list[list[int]], config: Mapping[str, Json]) -> None:
    positions, vocab_size = config.get("max_position_embeddings"), config["vocab_size"]
    faults = [f"`verify.texts[{i}]` has no tokens" for i, ids in enumerate(texts) if not ids]
    faults += [
        f"`verify.texts[{i}]` has {len(ids)} tokens, the model {positions} positions"
        for i, ids in enumerate(texts)
        if positions is not None and len(ids) > positions
    ]
    if faults:
        raise RecipeError("texts do not fit the model", facts=faults, hint="change `verify.texts`")
    unknown = sorted({token for ids in texts for token in ids if token >= vocab_size})
    if unknown:
        raise VerificationError(
            f"the tokenizer yields the token ids {unknown}, but the model's `vocab_size` is "
            f"{vocab_size}",
            hint="use the tokenizer that belongs to the model",
        )


def summary(facts: Mapping[str, Json]) -> str:
    """What was compared, how far casts went, and how far logits are apart."""
    structure = facts["structure"]
    told = []
    if structure["exact_tensors"]:
        told.append(f"{structure['exact_tensors']} tensors equal to the byte")
    if structure["cast_tensors"]:
        error = structure["largest_relative_error"]
        loss = f"relative error up to {error['value']:.2g}" if error else "without loss"
        told.append(f"{structure['cast_tensors']} tensors cast, {loss}")
    if structure["changed_tensors"]:
        told.append(f"{structure['changed_tensors']} tensors as computed from the source")
    if "logits" in facts:
        told.append(logits_text(facts["logits"]))
    return "; ".join(told)


STAGE = Stage("verify", 2, ("download", "convert"), settings, run, summary)
