/** The facts that a saved model's Python module is written from. */
interface ModuleFacts {
  /** The family's `model_type` in transformers. */
  readonly family: string
  /** The docstring of the module: the original model, and what was removed. */
  readonly account: string
  /** Names of modules in a block. */
  readonly names: BlockNames
  /** For sliced models: the projections that write the stream at the end of the last block, and the final norm. */
  readonly sliced?: {
    readonly last: readonly string[]
    readonly finalNorm: string
    readonly finalNormBias: boolean
    readonly parallel: boolean
  }
}

export interface BlockNames {
  /** The names of attention modules: several if blocks have different kinds of attention. */
  readonly attentions: readonly string[]
  readonly attentionNorms: readonly string[]
  readonly mlp: string
  readonly mlpNorms: readonly string[]
  /** Norms that both submodules use, which stay if one of the submodules is removed. */
  readonly sharedNorms: readonly string[]
}

/** The name of the file that a saved model's `auto_map` refers to. */
export const moduleFile = 'modeling_espalier.py'

/** The `model_type` that only the generated module registers, so that no program opens the folder as a complete model of its family. */
export const ownModelType = (family: string): string => `espalier_${family}`

/** The source of a Python module that opens a pruned or sliced model in transformers (5 or newer), based on the family's own classes. */
export function moduleText(facts: ModuleFacts): string {
  return [header(facts), facts.sliced ? slicedClasses(facts, facts.sliced) : prunedClasses(facts)].join('\n\n\n')
}

/** Escapes a text so that it neither ends a docstring nor escapes anything. */
const quote = (text: string): string => text.replaceAll('\\', '/').replaceAll('"""', "'''")

const tuple = (names: readonly string[]): string =>
  `(${names
    .map((name) => `"${name}", `)
    .join('')
    .trimEnd()})`

const header = ({ family, account, names }: ModuleFacts) => `"""${quote(account)}

Open this folder with transformers 5 or newer:

    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)

The classes below are those of the "${family}" family with other modules in some places. Nothing is downloaded and no other code is run.
"""

import copy

import torch
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

DenseConfig = CONFIG_MAPPING["${family}"]
DenseModel = MODEL_FOR_CAUSAL_LM_MAPPING[DenseConfig]


def attention_of(block):
    """The name under which a block of the family has its attention."""
    return next(name for name in ${tuple(names.attentions)} if hasattr(block, name))`

const prunedClasses = (facts: ModuleFacts) =>
  [prunedConfig(facts), removedParts, narrowedBlock(facts), numberedAttentions, prunedModel].join('\n\n\n')

const prunedConfig = ({ family }: ModuleFacts) => `class PrunedConfig(DenseConfig):
    """The config of the family; \`blocks_left\` says for each block whether it has an attention, and how many neurons its MLP has."""

    model_type = "${ownModelType(family)}"`

const removedParts = `class RemovedAttention(nn.Module):
    """Adds nothing to the stream. Softmax attention answers with its weights besides, of which there are none."""

    def __init__(self, name):
        super().__init__()
        self.answers_pairs = name != "linear_attn"

    def forward(self, hidden_states, *args, **kwargs):
        nothing = torch.zeros_like(hidden_states)
        return (nothing, None) if self.answers_pairs else nothing


class RemovedMlp(nn.Module):
    """Adds nothing to the stream."""

    def forward(self, hidden_states):
        return torch.zeros_like(hidden_states)`

const narrowedBlock = ({ names }: ModuleFacts) => `def narrowed_block(block_class, config, index):
    """A block of the family with what is left of it: an MLP of its own width, and nothing in the place of what was removed."""
    left = config.blocks_left[index]
    own = copy.copy(config)
    own.intermediate_size = max(left["mlp"], 1)
    block = block_class(own, index)
    if not left["attention"]:
        name = attention_of(block)
        setattr(block, name, RemovedAttention(name))
        for norm in ${tuple(names.attentionNorms)}:
            setattr(block, norm, nn.Identity())
    if left["mlp"] == 0:
        block.${names.mlp} = RemovedMlp()
        for norm in ${tuple(names.mlpNorms)}:
            setattr(block, norm, nn.Identity())
    return block`

const numberedAttentions = `def number_attentions(blocks, config):
    """
    Places in the key/value cache. The cache asks the first block of each kind of attention how many tokens it has seen; where that one
    lost its attention, the next of its kind takes its place.
    """
    kinds = getattr(config, "layer_types", None) or ["attention"] * len(blocks)
    for kind in set(kinds):
        places = [index for index, own in enumerate(kinds) if own == kind]
        left = [index for index in places if config.blocks_left[index]["attention"]]
        if left:
            first = blocks[left[0]]
            getattr(first, attention_of(first)).layer_idx = places[0]`

const prunedModel = `class PrunedForCausalLM(DenseModel):
    config_class = PrunedConfig

    def __init__(self, config):
        super().__init__(config)
        blocks = self.model.layers
        for index in range(len(blocks)):
            blocks[index] = narrowed_block(type(blocks[index]), config, index)
        number_attentions(blocks, config)
`

type Sliced = NonNullable<ModuleFacts['sliced']>

const slicedClasses = (facts: ModuleFacts, sliced: Sliced) =>
  [slicedConfig(facts), streamNorm, slicedBlock(facts, sliced), slicedModel(sliced)].join('\n\n\n')

const slicedConfig = ({ family }: ModuleFacts) => `class PrunedConfig(DenseConfig):
    """The config of the family; the stream between submodules has \`stream_width\` coordinates instead of \`hidden_size\`."""

    model_type = "${ownModelType(family)}"`

const streamNorm = `class StreamNorm(nn.Module):
    """Divides by the root of the mean square, which is taken over the dense width, however many coordinates are left."""

    def __init__(self, width, config, bias=False):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.dense_width = config.hidden_size
        self.epsilon = config.stream_epsilon

    def forward(self, hidden_states):
        wide = hidden_states.float()
        mean_square = wide.square().sum(-1, keepdim=True) / self.dense_width
        normed = self.weight * (wide * torch.rsqrt(mean_square + self.epsilon)).to(hidden_states.dtype)
        return normed if self.bias is None else normed + self.bias`

const slicedBlock = ({ names }: ModuleFacts, sliced: Sliced) => `class SlicedBlock(nn.Module):
    """A block between two bases: what it was given is carried over by a product before the submodule's output is added."""

    def __init__(self, block, config, is_last):
        super().__init__()
        for name, module in block.named_children():
            self.add_module(name, module)
        for norm in ${tuple([...names.sharedNorms, ...names.attentionNorms, ...names.mlpNorms])}:
            setattr(self, norm, StreamNorm(config.stream_width, config))
        behind = config.hidden_size if is_last else config.stream_width
${
  sliced.parallel
    ? '        self.attention_shortcut = nn.Parameter(torch.empty(config.stream_width, behind))'
    : `        self.attention_shortcut = nn.Parameter(torch.empty(config.stream_width, config.stream_width))
        self.mlp_shortcut = nn.Parameter(torch.empty(config.stream_width, behind))`
}
        if is_last:
            for path in ${tuple(sliced.last)}:
                part, name = path.split(".")
                narrow = getattr(getattr(self, part), name)
                setattr(getattr(self, part), name, nn.Linear(narrow.in_features, behind, bias=narrow.bias is not None))
        self.scale = getattr(config, "residual_multiplier", 1.0)
        self.attention_type = getattr(block, "attention_type", None)

    def forward(self, hidden_states, **kwargs):
        normed = self.${[...names.sharedNorms, ...names.attentionNorms][0]}(hidden_states)
        attention = getattr(self, attention_of(self))(hidden_states=normed, **kwargs)
        attention = attention[0] if isinstance(attention, tuple) else attention
${
  sliced.parallel
    ? `        return hidden_states @ self.attention_shortcut + attention + self.${names.mlp}(normed)`
    : `        hidden_states = hidden_states @ self.attention_shortcut + self.scale * attention
        return hidden_states @ self.mlp_shortcut + self.scale * self.${names.mlp}(self.${names.mlpNorms[0]}(hidden_states))`
}`

const slicedModel = (sliced: Sliced) => `class PrunedForCausalLM(DenseModel):
    config_class = PrunedConfig

    def __init__(self, config):
        narrow = copy.copy(config)
        narrow.hidden_size = config.stream_width
        super().__init__(narrow)
        self.config = config
        blocks = self.model.layers
        for index in range(len(blocks)):
            blocks[index] = SlicedBlock(blocks[index], config, index == len(blocks) - 1)
        self.model.${sliced.finalNorm} = StreamNorm(config.hidden_size, config, bias=${sliced.finalNormBias ? 'True' : 'False'})
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=self.lm_head.bias is not None)
`
