import { toErrorMessage } from '#contract/errors.ts'
import type { FeasibleRange, ModelDescription } from '#contract/models/models.ts'
import { activeParameters, presentParameters } from '#engine/architectures/count-parameters.ts'
import { type DecoderSpec, layoutOf } from '#engine/architectures/spec.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { beginTokenOf } from '#engine/evaluation/begin-token.ts'
import { openSpec } from '#engine/model/model.ts'
import { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { zeroedParts } from '#engine/model/weights/zeroed-parts.ts'
import type { Method } from '#engine/pruning/method.ts'
import { methods } from '#engine/pruning/registry.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'

/** Describes a checkpoint from its headers, its config and the last projections of its submodules. Throws if it is damaged. */
export async function describeModel(path: string, signal?: AbortSignal): Promise<ModelDescription> {
  const { checkpoint, spec, pruned } = await openSpec(path)
  try {
    const tensors = [...checkpoint.tensors.values()]
    const { total: stack, active } = activeParameters(spec)
    const rest = await Vocabulary.distinctParameters(checkpoint, spec)
    return {
      family: spec.family,
      format: checkpoint.path.endsWith('.gguf') ? 'gguf' : pruned ? (pruned.family === undefined ? 'espalier' : 'exact') : 'safetensors',
      shape: {
        blocks: spec.blocks.length,
        hidden: spec.hidden,
        intermediate: spec.intermediate,
        heads: spec.heads,
        keyValueHeads: spec.keyValueHeads,
        headSize: spec.headSize,
        vocabulary: spec.vocabulary,
        contextLength: spec.contextLength,
      },
      blocks: await describeBlocks(checkpoint, spec, signal),
      parameters: { total: stack + rest, stack, ...(spec.router ? { active: active + rest } : {}) },
      dtype: checkpoint.quantised?.types.join(', ') ?? mostCommon(tensors.map(({ dtype }) => dtype)),
      ...(checkpoint.quantised ? { unpacked: true } : {}),
      bytes: checkpoint.quantised?.bytes ?? tensors.reduce((total, { bytes }) => total + bytes, 0),
      ...(await describeTokenizer(checkpoint.path, spec)),
      feasible: feasibleRanges(spec),
      plan: pruned?.plan ?? null,
    }
  } finally {
    await checkpoint.close()
  }
}

/** Describes one block at a time, so that only one has to fit in memory. */
async function describeBlocks(checkpoint: Checkpoint, spec: DecoderSpec, signal?: AbortSignal): Promise<ModelDescription['blocks']> {
  const blocks: ModelDescription['blocks'] = []
  for (const index of spec.blocks.keys()) {
    const { attention, mlp } = presentParameters(spec, index)
    const { width, experts } = layoutOf(spec, index)
    const zeroed = await zeroedParts(checkpoint, spec, index, signal)
    blocks.push({
      attentionParameters: attention,
      mlpParameters: mlp,
      intermediate: width,
      ...(experts === undefined || width === 0 ? {} : { experts }),
      ...(zeroed.length > 0 ? { zeroed } : {}),
    })
  }
  return blocks
}

function mostCommon(values: readonly string[]): string {
  const counts = new Map<string, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  return [...counts].sort(([, a], [, b]) => b - a)[0]?.[0] ?? ''
}

async function describeTokenizer(
  path: string,
  spec: DecoderSpec,
): Promise<Pick<ModelDescription, 'tokenizer' | 'chatTemplate' | 'begins'>> {
  const tokenizer = await openTokenizer(path).catch((error: unknown) => {
    if (toErrorMessage(error).code !== 'not-found') throw error
  })
  if (!tokenizer) return { tokenizer: null, chatTemplate: false }
  const token = beginTokenOf({ spec, tokenizer })?.text ?? null
  const needed = spec.questionsBegin === true
  return {
    tokenizer: `${tokenizer.size.toLocaleString('en')} tokens`,
    chatTemplate: tokenizer.chats,
    ...(token === null && !needed ? {} : { begins: { token, added: tokenizer.prefixId !== undefined, ...(needed ? { needed } : {}) } }),
  }
}

/** The sparsities that each method can reach on a model with its default options. */
function feasibleRanges(spec: DecoderSpec): FeasibleRange[] {
  return Object.entries(methods as unknown as Record<string, Method>).map(([id, method]) => {
    const { least, most } = method.range(spec, method.options.parse({}))
    const count = spec.blocks.length
    const steps =
      method.unit === 'block' ? Array.from({ length: Math.floor(most * count + 1e-9) + 1 }, (_, blocks) => blocks / count) : undefined
    return { method: id, minimum: least, maximum: most, ...(steps ? { steps } : {}) }
  })
}
