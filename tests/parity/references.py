"""Makes the references in tests/fixtures/: what the original model computes from each checkpoint.

    python -m tests.parity.references [NAME ...]

Needs the extra `verify` (torch). Reads the stored checkpoints and changes nothing in them; writes
`expected.json` beside each. Where transformers has the class, it reads the folder; for
architectures of remote code, `equivalents` makes the same function out of transformers' modules.
All in float32, one prompt at a time, without a cache, and (but for one) with eager attention.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.parity.as_published import read_json
from tests.parity.fixture_models import LLAMA_LIKE
from tests.parity.fixture_models_gpt import GPT_LIKE
from tests.parity.fixture_sizes import Model

FIXTURES = Path(__file__).parent.parent / "fixtures"
KINDS: dict[str, Model] = LLAMA_LIKE | GPT_LIKE

PROMPTS = (
    (64,),
    (1, 17, 42, 5, 96, 3, 64, 100),
    tuple(3 + 41 * number % 109 for number in range(21)),
    tuple(2 + (number * number + 5 * number) % 107 for number in range(72)),
)
"""Of unequal lengths; the second one's logits are stored for every token. The last is longer than
every window and every original number of positions in the fixtures."""

EVERY = 1
"""Which prompt's logits are stored for every token."""

LONGEST = 128
"""No fixture is asked for more positions."""

MAX_GREEDY = 64

SMALLEST_GAP = 2e-4
"""Twice the error that is let pass, relative to the largest logit: where the best two logits are
nearer to one another, the greedy tokens end, since an error let pass could change the next one."""

ATTENTION = {"falcon-rw": "sdpa"}
"""Other than eager. In transformers 5.24 (`modeling_falcon.py`), Falcon's eager attention adds
ALiBi to scores whose mask holds it already; `sdpa` adds it once, as tiiuae/falcon-rw-1b does."""

POSITION_KEYS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"),
)

Logits = Callable[[tuple[int, ...]], Any]
"""From token ids to a tensor of logits `[tokens, vocab_size]`."""


class Original(NamedTuple):
    """The original model of a fixture, and in words where it comes from."""

    logits: Logits
    origin: str


def main() -> None:
    """Write the references of the named fixtures, or of all of them."""
    for name in sys.argv[1:] or sorted(path.name for path in FIXTURES.iterdir()):
        write_reference(name)


def write_reference(name: str) -> None:
    """Compute and store `expected.json`, with a line for each row of numbers."""
    record = json.dumps(reference(name), indent=1)
    rows = record.replace("\n   ", " ").replace("\n  ]", "]").replace("[ ", "[")
    (FIXTURES / name / "expected.json").write_text(rows + "\n", encoding="utf-8")


def reference(name: str) -> dict[str, Any]:
    """All that `expected.json` holds, with logits to seven digits."""
    import torch
    import transformers

    prompts = prompts_of(name)
    original = original_model(name)
    with torch.no_grad():
        logits = [original.logits(prompt) for prompt in prompts]
        greedy = [greedy_tokens(original.logits, prompt, positions(name)) for prompt in prompts]
    return {
        "reference": original.origin,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "script": f"python -m tests.parity.references {name}",
        "prompts": [list(prompt) for prompt in prompts],
        "last_logits": [digits(each[-1]) for each in logits],
        "every_logits": [digits(each) for each in logits[EVERY]],
        "greedy": greedy,
        "smallest_gap": min(
            gap(original.logits, prompt, tokens)
            for prompt, tokens in zip(prompts, greedy, strict=True)
        ),
    }


def prompts_of(name: str) -> list[tuple[int, ...]]:
    """Those that leave room for ten more tokens."""
    return [prompt for prompt in PROMPTS if len(prompt) + 10 <= positions(name)]


def positions(name: str) -> int:
    """How many positions the model is asked for, at most those of its config.

    The first Qwen changes its frequencies and scales its queries beyond `seq_length`, step by
    step; this is not compared.
    """
    config = read_json(FIXTURES / name / "config.json")
    found = [config[key] for key in POSITION_KEYS if isinstance(config.get(key), int)]
    return min([LONGEST, *found])


def original_model(name: str) -> Original:
    """The model of a fixture, read by transformers or made from an equivalent."""
    from tests.parity.equivalents import EQUIVALENTS

    if name in EQUIVALENTS:
        return EQUIVALENTS[name](FIXTURES / name)
    return read_by_transformers(FIXTURES / name, KINDS[name].stem)


def read_by_transformers(folder: Path, stem: str) -> Original:
    """A stored checkpoint, read by transformers' own class."""
    import torch
    import transformers

    from tests.parity.exchanged import plain

    head = "LMHeadModel" if stem == "GPT2" else "ForCausalLM"
    made_by = getattr(transformers, f"{stem}{head}")
    config = made_by.config_class.from_pretrained(folder)
    attention = ATTENTION.get(folder.name, "eager")
    model = made_by.from_pretrained(
        folder, config=config, dtype=torch.float32, attn_implementation=attention
    )
    return Original(plain(model.eval()), f"transformers {stem}{head}, {attention} attention")


def greedy_tokens(logits: Logits, prompt: tuple[int, ...], limit: int) -> list[int]:
    """The best tokens one after another, until the second best comes too near."""
    found: list[int] = []
    while len(found) < MAX_GREEDY and len(prompt) + len(found) < limit:
        last = logits((*prompt, *found))[-1]
        if relative_gap(last) < SMALLEST_GAP:
            break
        found.append(int(last.argmax()))
    return found


def gap(logits: Logits, prompt: tuple[int, ...], greedy: list[int]) -> float:
    """Smallest distance of the best two logits over a greedy continuation, two digits."""
    if not greedy:
        return 1.0
    rows = logits((*prompt, *greedy[:-1]))[len(prompt) - 1 :]
    return float(f"{min(relative_gap(row) for row in rows):.2g}")


def relative_gap(row: Any) -> float:
    """Distance of the best two of a token's logits, relative to the largest of all."""
    best, second = row.topk(2).values.tolist()
    return float((best - second) / row.abs().max())


def digits(row: Any) -> list[float]:
    """Seven significant digits of each value."""
    return [float(f"{value:.7g}") for value in row.tolist()]


if __name__ == "__main__":
    main()
