"""Misplace weights of the demo checkpoint, one fault at a time, and see what it recites then.

Run `python recipes/demo/misplace.py [folder]`. The demo model tests a converter only if a wrong
row, a swapped matrix or a wrong constant shows in its text, so this measures that.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from faults import Fault, held_out_in_layer, trained_in_layer, trained_in_whole
from recite import CHECKPOINT, PROMPTS, greedy
from transformers import AutoTokenizer, LlamaForCausalLM
from transformers.utils import logging

COUNT = 48  # tokens compared after each prompt
Figures = list[int]  # for each prompt: leading tokens that still agree


class Bench:
    """The sound model with its continuations of PROMPTS, and ways to spoil it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = self.load()
        self.sound = self.model.state_dict()
        # Tied to the embedding: loading it too would undo a fault in the embedding.
        del self.sound["lm_head.weight"]
        self.sound = {name: weight.clone() for name, weight in self.sound.items()}
        tokenizer = AutoTokenizer.from_pretrained(folder)
        self.prompts = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
        self.right = [greedy(self.model, ids, COUNT) for ids in self.prompts]

    def load(self, **config: object) -> LlamaForCausalLM:
        """The model in float32, with some of its configuration replaced."""
        return LlamaForCausalLM.from_pretrained(self.folder, dtype=torch.float32, **config).eval()

    def figures(self, model: LlamaForCausalLM) -> Figures:
        """Leading tokens that `model` has in common with the sound one."""
        found = []
        for ids, right in zip(self.prompts, self.right, strict=True):
            pairs = zip(greedy(model, ids, COUNT), right, strict=False)
            found.append(next((i for i, (a, b) in enumerate(pairs) if a != b), COUNT))
        return found

    def with_fault(self, fault: Fault) -> Figures:
        """The figures with one fault in the weights."""
        state = dict(self.sound)
        fault(state)
        self.model.load_state_dict(state, strict=False)
        return self.figures(self.model)

    def with_config(self, **config: object) -> Figures:
        """The figures with a wrong constant in the configuration."""
        return self.figures(self.load(**config))


def measure(bench: Bench) -> dict[str, list[Figures]]:
    """Every fault's figures: one entry for each layer, or a single one."""
    layers = bench.model.config.num_hidden_layers
    table: dict[str, list[Figures]] = {}
    for kind in (trained_in_layer, held_out_in_layer):
        for layer in range(layers):
            for name, fault in kind(layer).items():
                label = f"{name} *" if kind is held_out_in_layer else name
                table.setdefault(label, []).append(bench.with_fault(fault))
    for name, fault in trained_in_whole(layers).items():
        table[name] = [bench.with_fault(fault)]
    for theta in (500000.0, 5000.0):
        rope = {"rope_type": "default", "rope_theta": theta}
        table[f"rope_theta {theta:.0f} *"] = [bench.with_config(rope_parameters=rope)]
    return table


def main() -> None:
    """Print how many of COUNT tokens survive each fault; COUNT means that it went unseen."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    table = measure(Bench(Path(sys.argv[1]) if len(sys.argv) > 1 else CHECKPOINT))
    print(f"Tokens of {COUNT} that still agree, for each prompt (columns: layers 0, 1, ...);")
    print("* marks faults that training never showed.")
    for name, rows in table.items():
        cells = "  ".join("/".join(f"{n:2d}" for n in row) for row in rows)
        print(f"{name:<36} {cells}")
    cases = [row for rows in table.values() for row in rows]
    seen = sum(min(row) < COUNT for row in cases)
    print(f"{seen} of {len(cases)} faults change the text of some prompt,", end=" ")
    print(f"{sum(max(row) < COUNT for row in cases)} that of all three.")


if __name__ == "__main__":
    main()
