"""A small `tokenizer.json`, trained on the spot by the library that reads it."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SENTENCE = "the quick brown fox jumps over the lazy dog and then another one asks what a server holds of it"
WORDS = SENTENCE.split()

MOCK_TEMPLATE = """<s>
{%- for message in messages %}
    {{- '<|' ~ message.role ~ '|>\\n' ~ message.content ~ '\\n' }}
{%- endfor %}
{{- '<|assistant|>\\n' }}"""
"""What the mock server does with messages, for a model whose texts begin with `<s>`."""


def text(count: int, seed: int = 0) -> str:
    """Return `count` words that differ between seeds."""
    return " ".join(WORDS[(seed * 31 + i * i + i // 7) % len(WORDS)] for i in range(count))


def write(folder: Path) -> Path:
    """Return the path of a byte-level BPE of some hundred tokens that begins every text with `<s>`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text(200, seed) for seed in range(5)], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path
