"""Measures perplexity on a held-out text: joined, cut into windows without overlap, the tail dropped."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from model import Llama


@torch.no_grad()
def measure_perplexity(model: Llama, folder: Path, name: str, windows: int | None = None) -> float:
    """Returns exp of the mean cross-entropy over the windows of `{name}.txt`, all of them unless told."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tokenizer.encode((folder / f"{name}.txt").read_text("utf-8").strip()).ids
    length = model.shape.context
    rows = torch.tensor(ids[: len(ids) // length * length]).view(-1, length)[:windows]
    total = 0.0
    for part in rows.split(16):
        logits = model(part)[:, :-1]
        total += F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum").item()
    return math.exp(total / (len(rows) * (length - 1)))
