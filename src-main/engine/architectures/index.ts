import { EspalierError } from '#contract/errors.ts'
import type { BlockLayout, DecoderSpec } from '#engine/model/spec.ts'
import type { Architecture } from './common.ts'
import { ConfigReader } from './config-reader.ts'
import { llama } from './llama.ts'
import { mistral } from './mistral.ts'
import { phi } from './phi.ts'
import { phi3 } from './phi3.ts'
import { qwen2 } from './qwen2.ts'

export const architectures: readonly Architecture[] = [llama, mistral, qwen2, phi3, phi]

/** The spec of a checkpoint's config. `layout` describes blocks that were pruned before. Throws for an unknown family. */
export function readSpec(config: Record<string, unknown>, layout?: readonly BlockLayout[]): DecoderSpec {
  const reader = new ConfigReader(config)
  const modelType = reader.text('model_type')
  const architecture = architectures.find((candidate) => candidate.modelType === modelType)
  if (!architecture) {
    const known = architectures.map((candidate) => candidate.modelType).join(', ')
    throw new EspalierError('invalid', `config.json has "model_type" = "${modelType}". Known families are: ${known}.`)
  }
  return architecture.read(reader, layout)
}
