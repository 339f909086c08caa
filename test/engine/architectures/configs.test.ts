import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { EspalierError } from '#contract/errors.ts'
import { blockParameters } from '#engine/architectures/count-parameters.ts'
import type { Dialect } from '#engine/architectures/dialect.ts'
import { families, readSpec } from '#engine/architectures/index.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import { familyModels, fullModels, mixtureModels, packedMixture, variedModels } from '../../fixtures/reference.ts'

type Config = Record<string, unknown>

const home = join(import.meta.dirname, '../../fixtures/reference/models')
const read = (name: string, file: string): Config => JSON.parse(readFileSync(join(home, name, file), 'utf8')) as Config

const wrapped = (modelType: string, name: string): Config => ({ model_type: modelType, text_config: read(name, 'config.json') })
const configs: [string, Config][] = [
  ...familyModels.map((name): [string, Config] => [name, read(name, 'config.json')]),
  ...familyModels
    .filter((name) => !['qwen3-tied', 'qwen3_5'].includes(name))
    .map((name): [string, Config] => [`${name} as before transformers 5`, read(name, 'config-hub.json')]),
  ...mixtureModels.map((name): [string, Config] => [name, read(name, 'config-hub.json')]),
  ['qwen3_5_moe with images', wrapped('qwen3_5_moe', 'qwen3_5_moe')],
  ['gemma3 with images', wrapped('gemma3', 'gemma3')],
  ['qwen3_5 with images', wrapped('qwen3_5', 'qwen3_5')],
]

const strange = [
  null,
  true,
  false,
  0,
  -1,
  1,
  2,
  3,
  7,
  0.5,
  1e308,
  -0.5,
  2 ** 53,
  'x',
  '',
  [],
  {},
  [1],
  ['full_attention'],
  { rope_type: 'yarn' },
  { a: [{}] },
  'default',
]

/** A copy of a config in which one to three entries, at any depth, are replaced by a strange value, removed or doubled. */
function mutated(config: Config, random: () => number): Config {
  const copy = structuredClone(config)
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
  for (let times = 1 + Math.floor(random() * 3); times > 0; times--) {
    let place: Record<string, unknown> = copy
    let keys = Object.keys(place)
    while (keys.length > 0) {
      const key = pick(keys)
      const value = place[key]
      if (typeof value === 'object' && value !== null && random() < 0.7) {
        place = value as Record<string, unknown>
        keys = Object.keys(place)
        continue
      }
      if (random() < 0.2) delete place[key]
      else place[key] = typeof value === 'number' && random() < 0.3 ? value * pick([2, 0.5, -1, 3]) : structuredClone(pick(strange))
      break
    }
  }
  return copy
}

/** Reads every block of a spec. */
function lookAtAll(config: Config): void {
  const spec = readSpec(config)
  for (const index of spec.blocks.keys()) {
    blockParameters(spec, index)
    spec.slidingWindow(index)
    spec.rotary(index).frequencies(spec.contextLength + 1)
  }
}

test('every recorded model is in a list that tests loop over', () => {
  const recorded = readdirSync(home, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? entry.name : []))
  expect([...fullModels, ...variedModels, ...familyModels, ...mixtureModels, packedMixture].sort()).toEqual(recorded.sort())
})

test('files of each architecture of llama.cpp open as one family', () => {
  const owned = Object.values(families).flatMap(({ modelType, gguf }) =>
    Object.values(gguf ?? {}).flatMap(({ family = modelType, architecture }: Dialect) => (family === modelType ? architecture : [])),
  )
  expect(owned).toEqual([...new Set(owned)])
})

describe.each(configs)('the config of %s', (name, config) => {
  test('opens', () => {
    expect(() => lookAtAll(config)).not.toThrow()
  })

  test('spoiled in 200 ways opens or gives one clear error', () => {
    const source = new PythonRandom(name.length)
    const random = () => source.random()
    let refused = 0
    for (let time = 0; time < 200; time++) {
      const spoiled = mutated(config, random)
      try {
        lookAtAll(spoiled)
      } catch (error) {
        refused++
        expect(error, JSON.stringify(spoiled)).toBeInstanceOf(EspalierError)
        expect((error as EspalierError).message).toMatch(/^[^\n]{10,700}\.$/)
      }
    }
    expect(refused).toBeGreaterThan(20)
  })
})

test.each([
  [
    { model_type: 'deepseek_v3', n_routed_experts: 256 },
    /"deepseek_v3", a family with latent attention, which Espalier does not support. Known families: Gemma 2, Gemma 3, /,
  ],
  [{ model_type: 'newone', text_config: { kv_lora_rank: 64 } }, /"newone", a family with latent attention/],
  [{ model_type: 'mamba' }, /"mamba", a family that Espalier does not know. Known families:/],
  [{ model_type: '__proto__' }, /"__proto__", a family/],
  [{}, /has no "model_type"/],
])('%o is refused in one sentence that names the family and what is known', (config, says) => {
  const refuse = () => readSpec(config)
  expect(refuse).toThrow(says)
  expect(refuse).toThrow(/^[^.\n]*config\.json[^\n]*\.$/)
  if ('model_type' in config) for (const { title } of Object.values(families)) expect(refuse).toThrow(title)
})

test.each([
  ['qwen3_moe', { num_experts: 1 }, /num_experts_per_tok 2 is more than the 1 experts of "num_experts"/],
  ['qwen3_moe', { num_experts: 0 }, /"num_experts" = 0/],
  ['qwen3_moe', { mlp_only_layers: 'all' }, /"mlp_only_layers" = "all"; it must be a list of block numbers/],
  ['glm4_moe-groups', { n_group: 3 }, /n_group 3 does not divide the 8 experts/],
  ['glm4_moe-groups', { topk_group: 4 }, /topk_group 4 is more than n_group 2/],
  ['mixtral', { num_local_experts: 2000 }, /at most 1,024 are allowed/],
])('a config of %s with %o is refused', (name, changed, says) => {
  expect(() => readSpec({ ...read(name, 'config-hub.json'), ...changed })).toThrow(says)
})
