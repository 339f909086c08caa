"""Writes the tokenizer, the held-out texts and the epochs as token files.

    python prepare.py WORDNET_DICT WORK_FOLDER [--vocabulary 3072] [--epochs 6]
"""

import argparse
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from corpus import Corpus
from weights import EINSTEIN, RELATIVITY

END_OF_TEXT = "<|endoftext|>"
SHOWCASE_REPEATS = 20


def train_tokenizer(paragraphs: list[str], vocabulary: int) -> Tokenizer:
    """Trains a byte-level BPE that adds no token by itself; `<|endoftext|>` has id 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # The showcase names become single tokens only if they are frequent here.
    showcase = [text for text in paragraphs if EINSTEIN in text or RELATIVITY in text]
    tokenizer.train_from_iterator(paragraphs + showcase * SHOWCASE_REPEATS, trainer)
    return tokenizer


def write_epoch(path: Path, tokenizer: Tokenizer, paragraphs: list[str]) -> int:
    """Stores all tokens in one row, and where each paragraph begins; returns the number of tokens."""
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(paragraphs)]
    starts = np.cumsum([0] + [len(ids) for ids in encoded])
    np.savez(path, tokens=np.concatenate([np.array(ids, np.uint16) for ids in encoded]), starts=starts)
    return int(starts[-1])


def main() -> None:
    """Prepares everything that training reads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wordnet", type=Path, help="the folder with data.noun and index.sense")
    parser.add_argument("work", type=Path, help="where to write")
    parser.add_argument("--vocabulary", type=int, default=3072)
    parser.add_argument("--epochs", type=int, default=6, help="training starts over after the last one")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)

    corpus = Corpus(options.wordnet)
    for name, ids in (("calibration", corpus.validation), ("test", corpus.test)):
        (options.work / f"{name}.txt").write_text("\n\n".join(corpus.held_out_paragraphs(ids)) + "\n", "utf-8")
    tokenizer = None
    for epoch in range(options.epochs):
        paragraphs = corpus.epoch(seed=epoch + 1)
        if tokenizer is None:
            tokenizer = train_tokenizer(paragraphs, options.vocabulary)
            tokenizer.save(str(options.work / "tokenizer.json"))
        count = write_epoch(options.work / f"epoch-{epoch}.npz", tokenizer, paragraphs)
        print(f"epoch {epoch}: {len(paragraphs)} paragraphs, {count} tokens, {sum(map(len, paragraphs)) / count:.2f} characters a token")


if __name__ == "__main__":
    main()
