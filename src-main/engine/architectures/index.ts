import { EspalierError } from '#contract/errors.ts'
import type { Architecture } from './common.ts'
import { ConfigReader } from './config-reader.ts'
import type { Dialect } from './dialect.ts'
import { gemma2, gemma3, gemma3Text } from './gemma.ts'
import { granite } from './granite.ts'
import { llama } from './llama.ts'
import { mistral } from './mistral.ts'
import { olmo2, olmo3 } from './olmo.ts'
import { phi } from './phi.ts'
import { phi3 } from './phi3.ts'
import { qwen2 } from './qwen2.ts'
import { qwen3 } from './qwen3.ts'
import { qwen35, qwen35Text } from './qwen3-5.ts'
import { smollm3 } from './smollm3.ts'
import type { BlockLayout, DecoderSpec } from './spec.ts'

/** Every family, by the `model_type` of its configs. Of families that share a GGUF architecture, the first takes its files. */
export const families: Readonly<Record<string, Architecture>> = {
  llama,
  mistral,
  qwen2,
  qwen3,
  qwen3_5_text: qwen35Text,
  qwen3_5: qwen35,
  gemma2,
  gemma3_text: gemma3Text,
  gemma3,
  smollm3,
  olmo2,
  olmo3,
  granite,
  phi3,
  phi,
}

const findFamily = (modelType: unknown): Architecture | undefined =>
  typeof modelType === 'string' && Object.hasOwn(families, modelType) ? families[modelType] : undefined

/** What llama.cpp calls the parts of a family's models; undefined where it has no files of them. */
export const dialectsOf = (modelType: string) => findFamily(modelType)?.gguf

/** Every GGUF architecture, with the family that its files belong to. */
export const ggufArchitectures: ReadonlyMap<string, { readonly modelType: string; readonly dialect: Dialect }> = new Map(
  Object.entries(families)
    .flatMap(([modelType, { gguf }]) => Object.values(gguf ?? {}).map((dialect: Dialect) => ({ modelType, dialect })))
    .filter(({ dialect }, at, all) => all.findIndex((other) => other.dialect.architecture === dialect.architecture) === at)
    .map((found) => [found.dialect.architecture, found]),
)

/** The config of the text model alone: another one than the given for a model of several parts. */
export function textConfig(config: Record<string, unknown>): Record<string, unknown> {
  return findFamily(config.model_type)?.textConfig?.(config) ?? config
}

/**
 * The spec of a checkpoint's config. `layout` describes blocks that were pruned before, `stored` tells which tensors there are.
 * Throws for an unknown family.
 */
export function readSpec(
  config: Record<string, unknown>,
  layout?: readonly BlockLayout[],
  stored: (name: string) => boolean = () => false,
): DecoderSpec {
  const reader = new ConfigReader(config)
  const modelType = reader.text('model_type')
  const family = findFamily(modelType)
  if (!family) throw unknownFamily(modelType, config)
  return family.read(reader, layout, stored)
}

// Keys under which configs say how many experts their MLPs choose from.
const expertCounts = ['num_experts', 'num_local_experts', 'n_routed_experts', 'moe_num_experts', 'num_moe_experts']

/** One sentence that names the family and what is known. */
function unknownFamily(modelType: string, config: Record<string, unknown>): EspalierError {
  const name = modelType.length > 60 ? `${modelType.slice(0, 57)}...` : modelType
  const parts = [config, config.text_config].filter((part) => typeof part === 'object' && part !== null) as Record<string, unknown>[]
  const hasExperts = /moe|mixtral/i.test(name) || parts.some((part) => expertCounts.some((key) => Number(part[key]) > 1))
  const kind = hasExperts ? ', a mixture of experts, which this program does not prune' : ', a family that this program does not know'
  const known = Object.values(families).map(({ title }) => title)
  return new EspalierError('invalid', `config.json has "model_type" = ${JSON.stringify(name)}${kind}; known are ${known.join(', ')}.`, {
    family: name,
  })
}
