"""Build the demo model and train it to know its texts by heart, and only with sound weights.

A model this small learns short texts with its first layer alone: converters could then garble
the other layers unseen. Two measures make every weight bear load.

- Each sublayer's first output is GAIN times as large as the residual stream it joins, so what a
  layer receives is mostly the work of the layer before it.
- Once the text is known, each step also spoils a copy of the weights in one way and asks that
  the spoilt model no longer predict the text.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from faults import Fault, trained_in_layer, trained_in_whole
from recite import CONTEXT, line_starts, piece_ids
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

STEPS, BATCH, WINDOW = 850, 8, 320
PEAK_RATE = 3e-3
GAIN = 2.3
EMBEDDING_STD = 0.02
NORM_SPREAD, FINAL_NORM_SPREAD = 0.7, 1.2  # of log weights: a norm left out must show
FAULTS_FROM = 150  # the step by which most of the text is known
FAULT_WINDOW, FAULT_SHARE = 96, 0.3
FAULT_LOSS = 3.0  # nats a token: a spoilt model this bad is bad enough
UNTOLD = 3  # tokens of a line's beginning that nothing foretells: learning them is only noise
IGNORED = -100  # the label that the loss leaves out


def build_model(vocabulary: int) -> LlamaForCausalLM:
    """A float32 model at its start: 4 layers, 4 query heads over 2 key/value heads of size 32."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        initializer_range=0.1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    spread_start(model)
    return model


@torch.no_grad()
def spread_start(model: LlamaForCausalLM) -> None:
    """Set the norms' spread, the embedding's size and the gain of every sublayer."""
    for name, weight in model.named_parameters():
        if weight.dim() == 1:  # far from 1, so that a norm left out or swapped shows
            weight.copy_(
                torch.exp((1.2 if name == "model.norm.weight" else 0.7) * torch.randn(128))
            )
    embedding = model.model.embed_tokens.weight
    embedding.mul_(EMBEDDING_STD / embedding.std())
    ids = torch.randint(3, model.config.vocab_size, (4, 100))
    stream = EMBEDDING_STD
    for layer in model.model.layers:
        for last in (layer.self_attn.o_proj, layer.mlp.down_proj):
            last.weight.mul_(GAIN * stream / output_spread(model, last, ids))
            stream *= (1 + GAIN**2) ** 0.5


def output_spread(model: LlamaForCausalLM, part: torch.nn.Module, ids: torch.Tensor) -> float:
    """Standard deviation of a part's output over the tokens `ids`: [batch, time]."""
    seen: list[torch.Tensor] = []
    hook = part.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    model(input_ids=ids)
    hook.remove()
    return float((seen[0] - seen[0].mean((0, 1))).std())


def training_windows(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    """Bos plus up to WINDOW following tokens from every line start: [windows, WINDOW + 1].

    Short ones end in eos and are filled up with IGNORED.
    """
    rows = []
    for text in texts:
        for offset in line_starts(text):
            ids = piece_ids(tokenizer, text[offset:])[: WINDOW + 1]
            rows.append(ids + [IGNORED] * (WINDOW + 1 - len(ids)))
    return torch.tensor(rows)


def batches(windows: torch.Tensor) -> Iterator[torch.Tensor]:
    """STEPS shuffled batches [BATCH, longest], every window once before any comes again."""
    chooser = torch.Generator().manual_seed(1)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(STEPS):
        if len(order) < BATCH:
            order = torch.cat([order, torch.randperm(len(windows), generator=chooser)])
        batch, order = windows[order[:BATCH]], order[BATCH:]
        yield batch[:, : int((batch != IGNORED).sum(1).max())]


def token_losses(
    model: LlamaForCausalLM, state: dict[str, torch.Tensor], batch: torch.Tensor
) -> torch.Tensor:
    """Next-token losses [tokens that count] of the model with the weights `state`.

    Padding sits to the right of a causal model's real tokens, so it needs no mask.
    """
    inputs = {"input_ids": batch[:, :-1].clamp(min=0), "use_cache": False}
    logits = torch.func.functional_call(model, state, kwargs=inputs).logits[:, UNTOLD:]
    labels = batch[:, 1 + UNTOLD :].flatten()
    losses = cross_entropy(logits.flatten(0, 1), labels, ignore_index=IGNORED, reduction="none")
    return losses[labels != IGNORED]


class FaultPicker:
    """Chooses faults at random, the more often the better the model last coped with them."""

    def __init__(self, layers: int) -> None:
        self.faults: list[Fault] = list(trained_in_whole(layers).values())
        for layer in range(layers):
            self.faults.extend(trained_in_layer(layer).values())
        self.coping = [FAULT_LOSS] * len(self.faults)
        self.chooser = torch.Generator().manual_seed(2)

    def loss(self, model: LlamaForCausalLM, batch: torch.Tensor) -> torch.Tensor:
        """How far a spoilt model's losses fall short of FAULT_LOSS, on average."""
        weights = torch.tensor(self.coping) + 0.1
        chosen = int(torch.multinomial(weights, 1, generator=self.chooser))
        state = dict(model.named_parameters())
        self.faults[chosen](state)
        short = (FAULT_LOSS - token_losses(model, state, batch[:, : FAULT_WINDOW + 1])).relu()
        self.coping[chosen] = short.mean().item()
        return short.mean()


def rate_at(step: int) -> float:
    """Learning rate: 40 warm-up steps, then a straight line down to zero."""
    return PEAK_RATE * min((step + 1) / 40, (STEPS - step) / (STEPS - 40))


def train(model: LlamaForCausalLM, windows: torch.Tensor) -> None:
    """Train in place; weight decay applies to matrices, never to norms."""
    norms = [p for p in model.parameters() if p.dim() == 1]
    matrices = [p for p in model.parameters() if p.dim() > 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": norms, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98))
    picker = FaultPicker(model.config.num_hidden_layers)
    began = time.monotonic()
    for step, batch in enumerate(batches(windows)):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step)
        loss = token_losses(model, dict(model.named_parameters()), batch).mean()
        spoilt = picker.loss(model, batch) if step >= FAULTS_FROM else torch.zeros(())
        optimizer.zero_grad()
        (loss + FAULT_SHARE * spoilt).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == STEPS - 1:
            coping = sum(picker.coping) / len(picker.coping)
            seconds = time.monotonic() - began
            print(f"step {step:3d}  loss {loss.item():.3f}  faults {coping:.2f}  {seconds:.0f} s")
