"""Measures an exported model on its held-out texts and asks it some questions.

    python check.py MODEL_FOLDER [PROMPT ...]
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from evaluate import measure_perplexity
from model import Llama, Shape, from_named_tensors

SHOWCASE = ["Who is Albert Einstein?", "The theory of relativity"]
COMMON = ["What is a dog?", "Define music", "What is water?", "What is a house?", "What does happy mean?",
          "What does it mean to swim?", "What is a car?", "What is the sun?", "What is physics?", "Who is Charles Darwin?",
          "Where is Paris?", "What is a cat?", "What is a tree?", "What is a teacher?", "Define love", "A physicist is"]  # fmt: skip


def load(folder: Path) -> Llama:
    """Reads an exported model."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    shape = Shape(
        vocabulary=config["vocab_size"],
        blocks=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        key_value_heads=config["num_key_value_heads"],
        intermediate=config["intermediate_size"],
        context=config["max_position_embeddings"],
        norm_epsilon=config["rms_norm_eps"],
        rope_theta=config["rope_theta"],
    )
    return from_named_tensors(shape, load_file(folder / "model.safetensors")).eval()


def banned_tokens(ids: list[int], size: int) -> list[int]:
    """Returns the tokens that would repeat a run of `size` tokens."""
    tail = ids[len(ids) - size + 1 :]
    return [ids[i + size - 1] for i in range(len(ids) - size + 1) if ids[i : i + size - 1] == tail]


@torch.no_grad()
def search_beams(model: Llama, prompt: list[int], length: int = 128, beams: int = 5, no_repeat: int = 3) -> list[int]:
    """Beam search up to `length` tokens in all, ended by token 0; scores are means over the new tokens."""
    alive, done = [(0.0, prompt)], []
    while alive and len(alive[0][1]) < length and len(done) < beams:
        scores = model(torch.tensor([ids for _, ids in alive]))[:, -1].log_softmax(-1)
        for row, (_, ids) in enumerate(alive):
            scores[row, banned_tokens(ids, no_repeat)] = -torch.inf
        total = scores + torch.tensor([score for score, _ in alive])[:, None]
        best = total.flatten().topk(2 * beams)
        grown = [(s, alive[i // scores.shape[1]][1] + [i % scores.shape[1]]) for s, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
        done += [(score / (len(ids) - len(prompt)), ids) for score, ids in grown[:beams] if ids[-1] == 0]
        alive = [(score, ids) for score, ids in grown if ids[-1] != 0][:beams]
    done += [(score / (len(ids) - len(prompt)), ids) for score, ids in alive]
    return max(done)[1]


def main() -> None:
    """Prints perplexities and answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("prompts", nargs="*", default=SHOWCASE + COMMON)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load(options.folder)
    tokenizer = Tokenizer.from_file(str(options.folder / "tokenizer.json"))
    for name in ("calibration", "test"):
        print(f"{name} perplexity {measure_perplexity(model, options.folder, name):.2f}")
    for prompt in options.prompts:
        print("-", tokenizer.decode(search_beams(model, tokenizer.encode(prompt).ids)))


if __name__ == "__main__":
    main()
