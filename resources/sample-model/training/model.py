"""A small Llama: tied embeddings, no biases, grouped key/value heads, rotary positions."""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Shape:
    """The sizes of the model."""

    vocabulary: int = 3072
    blocks: int = 12
    width: int = 128
    heads: int = 4
    key_value_heads: int = 2
    intermediate: int = 384
    context: int = 256
    norm_epsilon: float = 1e-5
    rope_theta: float = 10000.0

    @property
    def head(self) -> int:
        """The width of one head."""
        return self.width // self.heads

    def to_dict(self) -> dict:
        """Returns the sizes by name."""
        return asdict(self)


class Norm(nn.Module):
    """Root mean square normalisation over the last axis."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.width))
        self.epsilon = shape.norm_epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        return F.rms_norm(hidden, hidden.shape[-1:], self.weight.to(hidden.dtype), self.epsilon)


class Block(nn.Module):
    """Attention and a gated MLP; query, key and value stand in one matrix, gate and up in another."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.split = [shape.heads * shape.head, shape.key_value_heads * shape.head, shape.key_value_heads * shape.head]
        self.attention_norm = Norm(shape)
        self.mlp_norm = Norm(shape)
        self.query_key_value = nn.Linear(shape.width, sum(self.split), bias=False)
        self.output = nn.Linear(shape.width, shape.width, bias=False)
        self.gate_up = nn.Linear(shape.width, 2 * shape.intermediate, bias=False)
        self.down = nn.Linear(shape.intermediate, shape.width, bias=False)

    def forward(self, hidden: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        hidden = hidden + self.attend(self.attention_norm(hidden), cosine, sine)
        gate, up = self.gate_up(self.mlp_norm(hidden)).chunk(2, -1)
        return hidden + self.down(F.silu(gate) * up)

    def attend(self, hidden: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """Causal attention over [batch, tokens, width]."""
        batch, tokens, width = hidden.shape
        query, key, value = (
            part.view(batch, tokens, -1, self.shape.head).transpose(1, 2)
            for part in self.query_key_value(hidden).split(self.split, -1)
        )
        repeats = self.shape.heads // self.shape.key_value_heads
        key = rotate(key, cosine, sine).repeat_interleave(repeats, 1)
        value = value.repeat_interleave(repeats, 1)
        mixed = F.scaled_dot_product_attention(rotate(query, cosine, sine), key, value, is_causal=True)
        return self.output(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Llama(nn.Module):
    """From token ids [batch, tokens] to logits [batch, tokens, vocabulary]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.norm = Norm(shape)
        self.initialise()

    def initialise(self) -> None:
        """Draws the weights; what adds to the residual stream starts smaller by sqrt(2 blocks)."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                is_residual = name.endswith(("output.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / ((2 * self.shape.blocks) ** 0.5 if is_residual else 1))

    def forward(self, ids: Tensor) -> Tensor:
        cosine, sine = rotary_table(self.shape, ids.shape[1])
        hidden = self.embedding(ids)
        if torch.is_autocast_enabled("cpu"):
            hidden, cosine, sine = hidden.bfloat16(), cosine.bfloat16(), sine.bfloat16()
        for block in self.blocks:
            hidden = block(hidden, cosine, sine)
        return F.linear(self.norm(hidden), self.embedding.weight)


def rotary_table(shape: Shape, tokens: int) -> tuple[Tensor, Tensor]:
    """Returns cosine and sine, [tokens, head]."""
    frequencies = shape.rope_theta ** (-torch.arange(0, shape.head, 2).float() / shape.head)
    angles = torch.outer(torch.arange(tokens).float(), frequencies)
    angles = torch.cat((angles, angles), -1)
    return angles.cos(), angles.sin()


def rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotates the halves of each head by its position."""
    first, second = heads.chunk(2, -1)
    return heads * cosine + torch.cat((-second, first), -1) * sine


def to_named_tensors(model: Llama) -> dict[str, Tensor]:
    """Returns the weights under the names of `LlamaForCausalLM`."""
    shape = model.shape
    tensors = {"model.embed_tokens.weight": model.embedding.weight, "model.norm.weight": model.norm.weight}
    for index, block in enumerate(model.blocks):
        prefix = f"model.layers.{index}."
        query, key, value = block.query_key_value.weight.split(block.split)
        gate, up = block.gate_up.weight.split(shape.intermediate)
        tensors |= {
            prefix + "input_layernorm.weight": block.attention_norm.weight,
            prefix + "self_attn.q_proj.weight": query,
            prefix + "self_attn.k_proj.weight": key,
            prefix + "self_attn.v_proj.weight": value,
            prefix + "self_attn.o_proj.weight": block.output.weight,
            prefix + "post_attention_layernorm.weight": block.mlp_norm.weight,
            prefix + "mlp.gate_proj.weight": gate,
            prefix + "mlp.up_proj.weight": up,
            prefix + "mlp.down_proj.weight": block.down.weight,
        }
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def from_named_tensors(shape: Shape, tensors: dict[str, Tensor]) -> Llama:
    """Builds the model from the weights of a `LlamaForCausalLM`, in float32."""
    model = Llama(shape)
    target = {"embedding.weight": tensors["model.embed_tokens.weight"], "norm.weight": tensors["model.norm.weight"]}
    for index in range(shape.blocks):
        layer = {name.split(".", 3)[3]: t for name, t in tensors.items() if name.startswith(f"model.layers.{index}.")}
        prefix = f"blocks.{index}."
        target[prefix + "attention_norm.weight"] = layer["input_layernorm.weight"]
        target[prefix + "mlp_norm.weight"] = layer["post_attention_layernorm.weight"]
        target[prefix + "query_key_value.weight"] = torch.cat([layer[f"self_attn.{part}_proj.weight"] for part in "qkv"])
        target[prefix + "output.weight"] = layer["self_attn.o_proj.weight"]
        target[prefix + "gate_up.weight"] = torch.cat([layer["mlp.gate_proj.weight"], layer["mlp.up_proj.weight"]])
        target[prefix + "down.weight"] = layer["mlp.down_proj.weight"]
    model.load_state_dict({name: tensor.float() for name, tensor in target.items()})
    return model
