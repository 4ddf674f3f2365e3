"""The demo's texts, and how well a checkpoint recites them.

Run `python recipes/demo/recite.py [folder]` to print the figures for the committed checkpoint.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

HERE = Path(__file__).resolve().parent
TEXT = HERE / "text.txt"
CHECKPOINT = HERE / "checkpoint"
CONTEXT = 512
COUNT = 48  # tokens that every line must bring back

# For use by hand and in tests: a first line, part of a first line in prose, a line from within.
PROMPTS = (
    "Shall I compare thee to a summer's day?",
    "Four score and seven years ago",
    "He took his vorpal sword in hand;",
)


@dataclass(frozen=True)
class Piece:
    """One poem or speech: the title is never shown to the model, the text is."""

    title: str
    text: str


def read_pieces(path: Path = TEXT) -> list[Piece]:
    """Split the text file at its '# title' lines."""
    pieces = []
    for block in path.read_text(encoding="utf-8").split("# ")[1:]:
        title, _, text = block.partition("\n")
        pieces.append(Piece(title.strip(), text.strip()))
    return pieces


def line_starts(text: str) -> list[int]:
    """Character offsets of the lines a reader can start from.

    A line that occurs twice (in the last stanzas of Jabberwocky and The Tyger), even with other
    punctuation, is kept at its first place only: what follows the second one would contradict it.
    """
    starts, seen, offset = [], {""}, 0
    for line in text.split("\n"):
        letters = "".join(filter(str.isalpha, line))
        if letters not in seen:
            starts.append(offset)
            seen.add(letters)
        offset += len(line) + 1
    return starts


def piece_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of a text up to its end: bos (added by the tokenizer), the text, eos."""
    return [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]


def first_line_length(tokenizer: PreTrainedTokenizerFast, text: str) -> int:
    """Tokens of bos and the first line: the prompt that should bring back the rest."""
    return len(tokenizer(text.partition("\n")[0])["input_ids"])


@torch.no_grad()
def recall(model: LlamaForCausalLM, ids: list[int], start: int) -> tuple[int, list[float]]:
    """Compare greedy decoding after ids[:start] with the true ids.

    Returns how many leading tokens agree, and by how much the true token's logit exceeds the
    best other one at each place. One forward pass is enough: while every earlier argmax was the
    true token, greedy decoding sees the same prefix.
    """
    logits = model(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1].float()
    truth = torch.tensor(ids[start:])[:, None]  # [places, 1]
    own = logits.gather(1, truth)[:, 0]
    others = logits.scatter(1, truth, float("-inf")).amax(1)
    gaps = own - others  # [places]
    return int((gaps > 0).long().cumprod(0).sum()), gaps.tolist()


@torch.no_grad()
def greedy(model: LlamaForCausalLM, ids: list[int], count: int) -> list[int]:
    """Up to `count` ids after `ids`, taking the argmax at each step; the last may be eos."""
    step = torch.tensor([ids])  # [1, prompt length], then [1, 1]
    found: list[int] = []
    cache = None
    while len(found) < count and model.config.eos_token_id not in found:
        result = model(input_ids=step, past_key_values=cache, use_cache=True)
        cache = result.past_key_values
        found.append(int(result.logits[0, -1].argmax()))
        step = torch.tensor([found[-1:]])
    return found


def piece_rows(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """One row per piece: tokens recited after its first line, and the smallest logit gaps."""
    rows = [f"{'piece':<40} recited  gap in first {COUNT}  gap in recited"]
    for piece in read_pieces():
        ids = piece_ids(tokenizer, piece.text)
        right, gaps = recall(model, ids, first_line_length(tokenizer, piece.text))
        row = f"{piece.title[:40]:<40} {right:>3}/{len(gaps):<3} {min(gaps[:COUNT]):>10.2f}"
        rows.append(f"{row} {min(gaps[: max(right, 1)]):>15.2f}")
    return rows


def line_row(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> str:
    """How many of all lines, given alone as the prompt, bring back the next COUNT tokens."""
    good, total, smallest = 0, 0, float("inf")
    for piece in read_pieces():
        for offset in line_starts(piece.text):
            rest = piece.text[offset:]
            start = first_line_length(tokenizer, rest)
            right, gaps = recall(model, piece_ids(tokenizer, rest)[: start + COUNT], start)
            total += 1
            good += right == len(gaps)
            smallest = min(smallest, *gaps)
    return f"every line's next {COUNT} tokens: {good} of {total} right, smallest gap {smallest:.2f}"


def report(folder: Path) -> None:
    """Print the figures for each precision, and what follows each of PROMPTS."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = LlamaForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        print(f"\nComputed in {dtype}:", *piece_rows(model, tokenizer), sep="\n")
        print(line_row(model, tokenizer))
        for prompt in PROMPTS:
            ids = greedy(model, tokenizer(prompt)["input_ids"], COUNT)
            print(f"  {prompt!r} -> {tokenizer.decode(ids)!r}")


if __name__ == "__main__":
    logging.disable_progress_bar()
    report(Path(sys.argv[1]) if len(sys.argv) > 1 else CHECKPOINT)
