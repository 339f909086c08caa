"""Writes a checkpoint as the files of a `LlamaForCausalLM` in bfloat16, with its held-out texts.

    python export.py WORK_FOLDER TARGET_FOLDER
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from model import Llama, Shape, to_named_tensors

END_OF_TEXT = "<|endoftext|>"


def make_config(shape: Shape) -> dict:
    """Returns the content of config.json."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "head_dim": shape.head,
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "initializer_range": 0.02,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": shape.context,
        "mlp_bias": False,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.blocks,
        "num_key_value_heads": shape.key_value_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_scaling": None,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": shape.vocabulary,
    }


def write_json(path: Path, content: dict) -> None:
    """Writes indented JSON with a newline at its end."""
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def main() -> None:
    """Exports the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    state = torch.load(options.work / "checkpoint.pt")
    model = Llama(Shape(**state["shape"]))
    model.load_state_dict(state["model"])
    options.target.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.bfloat16() for name, tensor in to_named_tensors(model).items()}
    save_file(tensors, options.target / "model.safetensors", metadata={"format": "pt"})
    write_json(options.target / "config.json", make_config(model.shape))
    write_json(options.target / "generation_config.json", {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0})
    names = {f"{kind}_token": END_OF_TEXT for kind in ("bos", "eos", "unk", "pad")}
    token = {"content": END_OF_TEXT, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    settings = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {"0": token},
        **names,
        "clean_up_tokenization_spaces": False,
        "model_max_length": model.shape.context,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write_json(options.target / "tokenizer_config.json", settings)
    for name in ("tokenizer.json", "calibration.txt", "test.txt"):
        shutil.copyfile(options.work / name, options.target / name)
    print(f"{state['tokens'] / 1e6:.1f} million tokens in {state['seconds'] / 60:.0f} minutes")


if __name__ == "__main__":
    main()
