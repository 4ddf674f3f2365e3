"""Make the demo checkpoint: a small Llama that knows `text.txt` by heart.

Run `python recipes/demo/make_checkpoint.py [folder]`; needs torch and transformers (the `verify`
extra) and a few minutes of one CPU core. Two runs on one machine write the same bytes.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from recite import CHECKPOINT, CONTEXT, read_pieces, report
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from training import build_model, train, training_windows
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

SPECIAL = ("<pad>", "<s>", "</s>")  # ids 0, 1, 2
VOCABULARY = 1021  # a prime: every split of it over GPUs has to pad

LICENSE = """\
The files in this folder (weights, configuration, tokenizer) were made by the project's own
script, make_checkpoint.py, from random numbers and from the text.txt beside it. No other model's
weights went into them.

They are dedicated to the public domain under CC0 1.0 Universal:
https://creativecommons.org/publicdomain/zero/1.0/

The text they were trained on (poems and a speech from the years 1609 to 1888) is in the public
domain.
"""


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE vocabulary of VOCABULARY entries; encoding adds a leading bos."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise RuntimeError(f"the text gave only {tokenizer.get_vocab_size()} tokens")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", SPECIAL.index("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL, strict=True)),
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def edit_json(path: Path, drop: tuple[str, ...], put: dict[str, object]) -> None:
    """Rewrite a JSON file without the keys in `drop` and with those in `put`."""
    data = json.loads(path.read_text(encoding="utf-8"))
    data = {key: value for key, value in data.items() if key not in drop} | put
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the checkpoint under the key names that published Llama checkpoints use."""
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(
        bos_token_id=1, eos_token_id=2, pad_token_id=0, do_sample=False
    )
    model.save_pretrained(folder, max_shard_size="1MB")  # two weight files
    tokenizer.save_pretrained(folder)
    # transformers 5 renamed these. Readers older than it know the former names only, and it
    # still understands them.
    former = {"rope_theta": 10000.0, "rope_scaling": None, "torch_dtype": "bfloat16"}
    edit_json(folder / "config.json", ("rope_parameters", "dtype"), former)
    name = {"tokenizer_class": "PreTrainedTokenizerFast"}
    edit_json(folder / "tokenizer_config.json", ("backend", "is_local"), name)
    (folder / "LICENSE").write_text(LICENSE, encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o644)


def main() -> None:
    """Train, round to bf16, save, and say how well the saved weights recite."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # the order of sums, and so the bytes, would depend on more
    torch.manual_seed(0)
    texts = [piece.text for piece in read_pieces()]
    tokenizer = train_tokenizer(texts)
    model = build_model(VOCABULARY)
    windows = training_windows(tokenizer, texts)
    print(f"{sum(p.numel() for p in model.parameters())} weights, {len(windows)} windows")
    train(model, windows)
    model.to(torch.bfloat16).eval()
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else CHECKPOINT
    save(model, tokenizer, folder)
    report(folder)


if __name__ == "__main__":
    main()
