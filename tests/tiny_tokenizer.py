"""Tiny tokenizers, made by the `tokenizers` package: files as a source checkpoint has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

TEXT = (
    "The capital of France is Paris, the capital of Italy is Rome, and the river of Paris is the "
    "Seine. The sea is wide, the sea is deep, and all the rivers go down to the sea. "
)


def byte_level(num_merges: int = 40) -> Tokenizer:
    """Byte-level BPE as Llama 3 has: `<s>` in front, every byte a token, some merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=258 + num_merges,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return tokenizer


def byte_fallback() -> Tokenizer:
    """BPE with spaces as `▁` and unknown characters as bytes, as Llama 1 and 2 have."""
    words = ["▁", "P", "a", "r", "i", "s", "▁P", "ar", "is", "▁Par", "▁Paris", "▁is"]
    merges = [("▁", "P"), ("a", "r"), ("i", "s"), ("▁P", "ar"), ("▁Par", "is"), ("▁", "is")]
    names = ["<s>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    vocab = {name: index for index, name in enumerate(names)}
    model = models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(["<s>", "</s>", "<unk>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def write_tokenizer(folder: Path, tokenizer: Tokenizer | None = None, **config: Any) -> Tokenizer:
    """Write tokenizer.json, tokenizer_config.json, config.json; `config` is for the last."""
    tokenizer = tokenizer or byte_level()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    return tokenizer
