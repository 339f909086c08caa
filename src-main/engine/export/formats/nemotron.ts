import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import { readSpec, textConfig } from '#engine/architectures/index.ts'
import type { DecoderSpec, Projection } from '#engine/architectures/spec.ts'
import { shardsBytes } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import { packedConfig } from '#engine/export/companions.ts'
import { type ExportFormat, keyValueBytes, tensorBytes, writeModelFolder } from '#engine/export/format.ts'
import { modelCard, readParentCard } from '#engine/export/model-card.ts'
import type { Planned } from '#engine/export/pieces.ts'
import { type PackedBlock, packBlocks, prunedTensors } from '#engine/export/pruned-tensors.ts'
import { specWithPlan } from '#engine/model/views/slice.ts'

/**
 * A folder in the form of NVIDIA's Nemotron-NAS, which vLLM builds block by block. A block may lack attention or MLP, and every MLP has its
 * own width. The form follows vLLM's reader (model_executor/models/nemotron_nas.py), but was not run in vLLM.
 */
export const nemotron: ExportFormat = {
  id: 'nemotron-nas',
  order: 4,
  title: 'Nemotron-NAS folder for vLLM',
  summary: 'For vLLM with --trust-remote-code. Stored without the removed weights.',
  reopens: false,
  async outline(planned) {
    const { packed, tensors } = layOut(planned)
    const attentions = packed.filter(({ attention }) => attention !== undefined).length
    return { bytes: tensorBytes(tensors), keyValueBytes: keyValueBytes(planned.model.spec, attentions), notes: [notRun] }
  },
  async fileBytes(described) {
    return shardsBytes(layOut(described).tensors, described.model.checkpoint.shardBytes)
  },
  async write(request) {
    const { tensors, config } = layOut(request)
    await writeModelFolder(request, {
      tensors,
      config,
      files: {
        [configModuleFile]: configModule,
        'README.md': modelCard(
          request,
          `A folder in the form of Nemotron-NAS for vLLM: \`vllm serve . --trust-remote-code\`, which runs \`${configModuleFile}\` to read the sizes of the blocks. ${notRun}`,
          await readParentCard(request.model),
        ),
      },
    })
  },
}

const notRun = "Its structure follows vLLM's reader; it was not run in vLLM."

function layOut(planned: Planned) {
  const { spec, checkpoint } = planned.model
  const sliced = planned.plan.slice !== undefined || spec.sliceWidth !== undefined
  const problem = sliced
    ? 'it does not support the shortcuts of a sliced model'
    : spec.router
      ? 'it does not support experts'
      : problemOf(spec)
  if (problem) throw refuse(problem)
  const { blocks } = specWithPlan(spec, planned.plan)
  const packed = packBlocks(spec, blocks)
  if (packed[0]?.attention === undefined) throw refuse('vLLM needs attention in the first block, and this plan removes it')
  const widths = packed.map(({ mlp }) => (mlp === undefined ? 0 : at(blocks, mlp).width))
  const config = configOf(spec, checkpoint.config, packed, widths)
  const tensors = prunedTensors(planned, { removed: 'absent', blocks: packed, names: llamaNames(spec, config) })
  return { packed, config, tensors }
}

type Config = Record<string, unknown>

const refuse = (why: string) =>
  new EspalierError('infeasible', `The format nemotron-nas cannot hold this model: ${why}. Choose exact, stock or gguf.`)

/** Why vLLM's blocks cannot compute a model; undefined if they can. These blocks are Llama's, with or without biases. */
function problemOf(spec: DecoderSpec): string | undefined {
  const { query, key, value, output, gate, up, down, ...rest } = spec.block(0)
  if (spec.parallelResidual || spec.norm.kind !== 'rms' || spec.norm.offset || !gate || !up || !down)
    return 'its blocks are not built like those of Llama'
  if (rest.queryNorm || rest.attentionOutputNorm || rest.mlpOutputNorm || !rest.attentionNorm || !rest.mlpNorm)
    return 'it has norms where the blocks of Llama have none'
  if (spec.blocks.some((_, block) => spec.block(block).delta)) return 'some of its blocks have no softmax attention'
  if (spec.embeddingScale || spec.residualScale || spec.logitScale || spec.scoreCap || spec.logitCap)
    return 'it scales or caps values that Llama does not'
  if (Math.abs(spec.scoreScale * Math.sqrt(spec.headSize) - 1) > 1e-6) return 'its attention scale is not the default'
  const window = spec.blocks.findIndex((_, block) => spec.slidingWindow(block) !== undefined)
  if (window >= 0) return `block ${window} has a sliding window of ${spec.slidingWindow(window)} tokens`
  if (spec.blocks.some((_, block) => spec.rotary(block) !== spec.rotary(0)) || spec.rotary(0)?.size !== spec.headSize)
    return 'its rotary embedding differs between blocks, or covers only a part of each head'
  if (Boolean(query.bias) !== Boolean(key.bias) || Boolean(query.bias) !== Boolean(value.bias) || (output.bias && !query.bias))
    return 'its attention has biases in a combination that vLLM does not support'
  return Boolean(up.bias) === Boolean(down.bias) && Boolean(gate.bias) === Boolean(up.bias)
    ? undefined
    : 'its MLP has biases in some projections only'
}

/** Entries of the family's config that have the same meaning in this format. */
const carried = [
  ...['vocab_size', 'hidden_size', 'num_attention_heads', 'hidden_act', 'rms_norm_eps', 'max_position_embeddings', 'initializer_range'],
  ...['rope_theta', 'rope_scaling', 'rope_parameters', 'tie_word_embeddings', 'bos_token_id', 'eos_token_id', 'pad_token_id'],
  ...['dtype', 'torch_dtype'],
]

function configOf(spec: DecoderSpec, dense: Config, packed: readonly PackedBlock[], widths: readonly number[]): Config {
  const family = packedConfig(spec, textConfig(dense), packed)
  requirePlainRotary(family)
  const { query, output, up } = spec.block(0)
  return {
    ...Object.fromEntries(carried.filter((word) => family[word] !== undefined).map((word) => [word, family[word]])),
    architectures: ['DeciLMForCausalLM'],
    model_type: 'nemotron-nas',
    auto_map: { AutoConfig: `${configModuleFile.replace(/\.py$/, '')}.NemotronNasConfig` },
    num_hidden_layers: packed.length,
    num_key_value_heads: null,
    intermediate_size: null,
    head_dim: spec.headSize,
    attention_bias: output.bias !== undefined,
    qkv_bias: query.bias !== undefined,
    mlp_bias: up?.bias !== undefined,
    block_configs: packed.map((block, position) => blockConfig(spec, block, at(widths, position))),
  }
}

/** Refuses LongRoPE: vLLM applies its two sets of factors only in the class for Phi-3. */
function requirePlainRotary({ rope_scaling: scaling, rope_parameters: parameters }: Config): void {
  const { rope_type: kind, type = kind } = { ...(parameters as Config | undefined), ...(scaling as Config | undefined) } as Config
  if (type === 'longrope' || type === 'su') throw refuse(`its rotary embedding is scaled as "${String(type)}"`)
}

/** The sizes of a block in the config. Without `ffn_mult`, vLLM uses the width unchanged. */
function blockConfig(spec: DecoderSpec, { attention }: PackedBlock, width: number): Config {
  return {
    attention: {
      no_op: attention === undefined,
      replace_with_linear: false,
      n_heads_in_group: attention === undefined ? null : spec.heads / spec.keyValueHeads,
      sparsify: null,
      window_length: null,
      num_sink_tokens: null,
      use_prefill_window_in_sink_attention: false,
      unshifted_sink: false,
    },
    ffn: { no_op: width === 0, replace_with_linear: false, intermediate_size: width === 0 ? null : width, sparsify: null },
  }
}

/** The spec of the same model, with the tensor names that vLLM reads. */
function llamaNames(spec: DecoderSpec, config: Config): DecoderSpec {
  const { query, output, up } = spec.block(0)
  const words = {
    model_type: 'llama',
    num_hidden_layers: spec.blocks.length,
    intermediate_size: spec.intermediate,
    num_key_value_heads: spec.keyValueHeads,
    attention_bias: query.bias !== undefined,
    mlp_bias: up?.bias !== undefined,
  }
  const names = readSpec({ ...config, ...words }, spec.blocks)
  if (output.bias) return names
  // Llama has biases on all four projections or on none.
  const withoutOutputBias = ({ bias: _, ...projection }: Projection): Projection => projection
  return {
    ...names,
    block(index, name) {
      const tensors = names.block(index, name)
      return { ...tensors, output: withoutOutputBias(tensors.output) }
    },
  }
}

/** The name of the file that the folder's `auto_map` refers to. */
const configModuleFile = 'configuration_nemotron_nas.py'

/** The source of a config class whose blocks have attributes, because vLLM reads them this way. */
const configModule = `"""The config of a pruned model in the form of Nemotron-NAS: \`block_configs\` has the sizes of each block. No other code is run."""

from transformers import PretrainedConfig


class Section(dict):
    """A part of the config whose entries are read as attributes; one that is not there is no attribute."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class NemotronNasConfig(PretrainedConfig):
    model_type = "nemotron-nas"

    def __init__(self, block_configs=(), **entries):
        self.block_configs = [Section({part: Section(sizes) for part, sizes in block.items()}) for block in block_configs]
        super().__init__(**entries)
`
