import { EspalierError } from '#contract/errors.ts'
import type { Architecture } from './common.ts'
import { ConfigReader } from './config-reader.ts'
import type { Dialect } from './dialect.ts'
import type { BlockLayout, DecoderSpec } from './spec.ts'

// generated: families (npm run generate)

import { gemma2, gemma3, gemma3Text } from './families/gemma.ts'
import { glm4Moe } from './families/glm4-moe.ts'
import { gptOss } from './families/gpt-oss.ts'
import { granite } from './families/granite.ts'
import { graniteMoe } from './families/granite-moe.ts'
import { llama } from './families/llama.ts'
import { mistral } from './families/mistral.ts'
import { mixtral } from './families/mixtral.ts'
import { olmo2, olmo3 } from './families/olmo.ts'
import { olmoe } from './families/olmoe.ts'
import { phi } from './families/phi.ts'
import { phi3 } from './families/phi3.ts'
import { qwen2 } from './families/qwen2.ts'
import { qwen2Moe } from './families/qwen2-moe.ts'
import { qwen3 } from './families/qwen3.ts'
import { qwen35, qwen35Text } from './families/qwen3-5.ts'
import { qwen35Moe, qwen35MoeText } from './families/qwen3-5-moe.ts'
import { qwen3Moe } from './families/qwen3-moe.ts'
import { smollm3 } from './families/smollm3.ts'

/** Every family, by the `model_type` of its configs. */
export const families: Readonly<Record<string, Architecture>> = {
  gemma2,
  gemma3_text: gemma3Text,
  gemma3,
  glm4_moe: glm4Moe,
  gpt_oss: gptOss,
  granite,
  granitemoe: graniteMoe,
  llama,
  mistral,
  mixtral,
  olmo2,
  olmo3,
  olmoe,
  phi,
  phi3,
  qwen2,
  qwen2_moe: qwen2Moe,
  qwen3,
  qwen3_5_text: qwen35Text,
  qwen3_5: qwen35,
  qwen3_5_moe_text: qwen35MoeText,
  qwen3_5_moe: qwen35Moe,
  qwen3_moe: qwen3Moe,
  smollm3,
}

// end

const findFamily = (modelType: unknown): Architecture | undefined =>
  typeof modelType === 'string' && Object.hasOwn(families, modelType) ? families[modelType] : undefined

/** llama.cpp's names for the parts of a family's models; undefined if Espalier neither reads nor writes GGUF files of the family. */
export const dialectsOf = (modelType: string) => findFamily(modelType)?.gguf

/** Whether vLLM accepts vectors instead of a family's experts. */
export const substitutesExperts = (modelType: string): boolean => findFamily(modelType)?.substitutesExperts === true

/** The titles of the families for which it does. */
export const expertSubstitutes: readonly string[] = Object.values(families).flatMap((family) =>
  family.substitutesExperts ? [family.title] : [],
)

/** Every GGUF architecture, with the family of its files. */
export const ggufArchitectures: ReadonlyMap<string, { readonly modelType: string; readonly dialect: Dialect }> = new Map(
  Object.values(families).flatMap(({ modelType, gguf }) =>
    Object.values(gguf ?? {}).flatMap((dialect: Dialect) =>
      (dialect.family ?? modelType) === modelType ? [[dialect.architecture, { modelType, dialect }]] : [],
    ),
  ),
)

/** Returns the config of the text model alone. It differs from the given config if the model has several parts. */
export function textConfig(config: Record<string, unknown>): Record<string, unknown> {
  return findFamily(config.model_type)?.textConfig?.(config) ?? config
}

/**
 * Reads the spec of a checkpoint from its config. `layout` describes the blocks of an already pruned model, and `stored` says which tensors
 * exist. Throws for an unknown family.
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

/** Designs whose attention keeps a compressed state instead of keys and values. */
const latentAttention = /^(deepseek_v[23]|glm4_moe_lite|kimi|minicpm3|longcat)/

/** The error for an unknown family, which lists the known ones. */
function unknownFamily(modelType: string, config: Record<string, unknown>): EspalierError {
  const name = modelType.length > 60 ? `${modelType.slice(0, 57)}...` : modelType
  const parts = [config, config.text_config].filter((part) => typeof part === 'object' && part !== null) as Record<string, unknown>[]
  const latent = latentAttention.test(name) || parts.some(({ kv_lora_rank: rank }) => Number(rank) > 0)
  const kind = latent ? 'a family with latent attention, which Espalier does not support' : 'a family that Espalier does not know'
  const known = Object.values(families).map(({ title }) => title)
  return new EspalierError(
    'invalid',
    `config.json has "model_type" = ${JSON.stringify(name)}, ${kind}. Known families: ${known.join(', ')}.`,
    {
      family: name,
    },
  )
}
