"""Trains the model, on from its last checkpoint if there is one.

    python train.py WORK_FOLDER --minutes 75 [--compile] [--bfloat16]

The rate warms up, stays, and falls to nothing over the last part of the plan, which is given in minutes or tokens.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluate import measure_perplexity
from model import Llama, Shape

END_OF_TEXT = 0
SHARE_OF_BLANK_LINES = 0.35
TELL_STEPS = 25


def cut_window(
    tokens: np.ndarray, starts: np.ndarray, paragraph: int, newlines: list[int], length: int, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Returns one window and the paragraph after its last one."""
    has_blank_lines = rng.random() < SHARE_OF_BLANK_LINES
    separator = newlines if has_blank_lines else [END_OF_TEXT]
    row = [] if has_blank_lines or rng.random() < 0.5 else [END_OF_TEXT]
    offset = int(rng.integers(starts[paragraph + 1] - starts[paragraph])) if has_blank_lines else 0
    while len(row) < length and paragraph < len(starts) - 1:
        row += tokens[starts[paragraph] + offset : starts[paragraph + 1]].tolist() + separator
        paragraph, offset = paragraph + 1, 0
    return np.array(row[:length]), paragraph


def read_windows(work: Path, newlines: list[int], length: int, skip: int = 0) -> Iterator[np.ndarray]:
    """Yields windows of `length` tokens without end, epoch after epoch; the first `skip` are passed over.

    Most windows begin at a paragraph's start, half of them without `<|endoftext|>`, which stands between paragraphs.
    The others begin inside a paragraph and have blank lines between them, like a text file cut into windows.
    """
    paths = sorted(work.glob("epoch-*.npz"), key=lambda path: int(path.stem.split("-")[1]))
    rng = np.random.default_rng(1)
    made = 0
    while True:
        for path in paths:
            epoch = np.load(path)
            tokens, starts = epoch["tokens"].astype(np.int64), epoch["starts"]
            paragraph = 0
            while paragraph < len(starts) - 1:
                window, paragraph = cut_window(tokens, starts, paragraph, newlines, length, rng)
                if len(window) < length:
                    continue
                made += 1
                if made > skip:
                    yield window


def rate_factor(step: int, progress: float, warm_up: int, decay: float) -> float:
    """Returns the share of the peak rate at `progress` (0 to 1) of the plan."""
    return min(1.0, (step + 1) / warm_up, max(0.0, (1 - progress) / decay))


def make_optimizers(model: Llama, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the embedding and the norms."""
    matrices = [p for p in model.blocks.parameters() if p.dim() == 2]
    norms = [p for p in model.parameters() if p.dim() == 1]
    muon = torch.optim.Muon(matrices, lr=rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": [model.embedding.weight], "weight_decay": 0.01}, {"params": norms, "weight_decay": 0.0}]
    return [muon, torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=True)]


def loss_of(model: nn.Module, windows: Tensor, bfloat16: bool) -> Tensor:
    """Returns the mean cross-entropy of the next token over windows of context + 1 tokens."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        logits = model(windows[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())


class Trainer:
    """The model, its optimisers, and how far the plan has come."""

    def __init__(self, options: argparse.Namespace) -> None:
        vocabulary = json.loads((options.work / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
        self.options = options
        self.shape = Shape(vocabulary=len(vocabulary), blocks=options.blocks, width=options.width, intermediate=3 * options.width)
        self.model = Llama(self.shape)
        self.forward = torch.compile(self.model) if options.compile else self.model
        self.optimizers = make_optimizers(self.model, options.rate)
        self.path = options.work / "checkpoint.pt"
        self.step, self.seconds_before = 0, 0.0
        if self.path.exists():
            self.load()
        self.begun = time.monotonic()
        self.newlines = [vocabulary["Ċ"]] * 2

    @property
    def seconds(self) -> float:
        """Time spent on the plan, over all starts."""
        return self.seconds_before + time.monotonic() - self.begun

    @property
    def tokens(self) -> int:
        """Tokens trained on."""
        return self.step * self.options.windows * self.shape.context

    @property
    def progress(self) -> float:
        """Share of the plan that is done."""
        return self.seconds / (60 * self.options.minutes) if self.options.minutes else self.tokens / self.options.tokens

    def load(self) -> None:
        """Goes on from the checkpoint."""
        state = torch.load(self.path)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds_before = state["step"], state["seconds"]

    def save(self) -> None:
        """Replaces the checkpoint in one move, so that a kill leaves the old or the new one."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "shape": self.shape.to_dict(),
        }
        torch.save(state, self.path.with_suffix(".part"))
        os.replace(self.path.with_suffix(".part"), self.path)
        perplexity = measure_perplexity(self.model, self.options.work, "calibration", windows=64)
        print(f"saved; validation perplexity over 64 windows {perplexity:.2f}", flush=True)

    def take_step(self, batch: Tensor) -> float:
        """Changes the weights once and returns the mean loss; a few windows at a time stay in the cache."""
        parts = batch.split(self.options.at_once)
        losses = []
        for part in parts:
            loss = loss_of(self.forward, part, self.options.bfloat16) / len(parts)
            loss.backward()
            losses.append(loss.item())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        rate = self.options.rate * rate_factor(self.step, self.progress, self.options.warm_up, self.options.decay)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return sum(losses)


def train(options: argparse.Namespace) -> None:
    """Runs the plan to its end; says how it goes and saves every few minutes."""
    torch.manual_seed(1)
    torch.set_num_threads(options.threads)
    trainer = Trainer(options)
    windows = read_windows(options.work, trainer.newlines, trainer.shape.context + 1, skip=trainer.step * options.windows)
    print(f"{sum(p.numel() for p in trainer.model.parameters())} parameters, from step {trainer.step}", flush=True)
    saved_at = trainer.seconds
    told_at, losses = trainer.seconds, []
    while trainer.progress < 1:
        losses.append(trainer.take_step(torch.from_numpy(np.stack([next(windows) for _ in range(options.windows)]))))
        if len(losses) == TELL_STEPS:
            speed = TELL_STEPS * options.windows * trainer.shape.context / (trainer.seconds - told_at)
            loss = sum(losses) / TELL_STEPS
            print(f"step {trainer.step} {trainer.tokens / 1e6:.2f}M tokens {trainer.progress:.1%} loss {loss:.3f} {speed:.0f} tokens/s", flush=True)
            told_at, losses = trainer.seconds, []
        if trainer.seconds - saved_at > options.save_seconds:
            trainer.save()
            saved_at = trainer.seconds
    trainer.save()


def main() -> None:
    """Reads the options and trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="the folder that prepare.py wrote")
    plan = parser.add_mutually_exclusive_group(required=True)
    plan.add_argument("--minutes", type=float, help="length of the plan in minutes of running")
    plan.add_argument("--tokens", type=float, help="length of the plan in tokens")
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--windows", type=int, default=16, help="windows a step")
    parser.add_argument("--at-once", type=int, default=16, help="windows computed together")
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--warm-up", type=int, default=150, help="steps")
    parser.add_argument("--decay", type=float, default=0.4, help="share of the plan over which the rate falls")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save-seconds", type=float, default=240)
    parser.add_argument("--compile", action="store_true", help="needs a C++ compiler")
    parser.add_argument("--bfloat16", action="store_true", help="faster where the processor has it")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
