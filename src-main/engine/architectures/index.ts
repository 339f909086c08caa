import { EspalierError } from '#contract/errors.ts'
import type { Architecture } from './common.ts'
import { ConfigReader } from './config-reader.ts'
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

export const architectures: readonly Architecture[] = [
  llama,
  mistral,
  qwen2,
  qwen3,
  qwen35Text,
  qwen35,
  gemma2,
  gemma3Text,
  gemma3,
  smollm3,
  olmo2,
  olmo3,
  granite,
  phi3,
  phi,
]

/** The config of the text model alone: another one than the given for a model of several parts. */
export function textConfig(config: Record<string, unknown>): Record<string, unknown> {
  const architecture = architectures.find((candidate) => candidate.modelType === config.model_type)
  return architecture?.textConfig?.(config) ?? config
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
  const architecture = architectures.find((candidate) => candidate.modelType === modelType)
  if (!architecture) {
    const known = architectures.map((candidate) => candidate.modelType).join(', ')
    throw new EspalierError('invalid', `config.json has "model_type" = "${modelType}". Known families are: ${known}.`)
  }
  return architecture.read(reader, layout, stored)
}
