import { readFileSync } from 'node:fs'
import { argv } from 'node:process'
import { defaultRecoveryTokens } from '#contract/pruning/recovery.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { readSpec } from '#engine/architectures/index.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { workOf } from '#engine/estimate/count-work.ts'
import { measureRates } from '#engine/estimate/machine-rates.ts'
import { expectedPlans } from '#engine/export/check-save.ts'
import { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { specWithPlan } from '#engine/model/views/slice.ts'
import { leastBytes, roomFor, trainedShapes } from '#engine/pruning/recovery/recovery-budget.ts'
import { Experience, estimateRun, sumSeconds } from '#services/experiments/estimate-seconds.ts'

/**
 * What a recovery of 2SSP at 50 % costs, from configs alone: `npm run bench -- recovery-cost [CONFIG.JSON ...]`; without one, of three
 * published shapes. Prints trained weights, the memory of a training, operations of a token, and what the preview says here of 262,144 tokens.
 */

/** Of HuggingFaceTB/SmolLM2-135M, meta-llama/Llama-3.2-1B and mistralai/Mistral-7B-v0.1, as far as costs depend on them. */
const shapes = {
  'SmolLM2-135M': { hidden: 576, blocks: 30, heads: 9, groups: 3, neurons: 1536, vocabulary: 49_152, tied: true },
  'Llama-3.2-1B': { hidden: 2048, blocks: 16, heads: 32, groups: 8, neurons: 8192, vocabulary: 128_256, tied: true },
  'Mistral-7B': { hidden: 4096, blocks: 32, heads: 32, groups: 8, neurons: 14_336, vocabulary: 32_000, tied: false },
}

const configOf = ({ hidden, blocks, heads, groups, neurons, vocabulary, tied }: (typeof shapes)['Mistral-7B']) => ({
  model_type: 'llama',
  hidden_size: hidden,
  num_hidden_layers: blocks,
  num_attention_heads: heads,
  num_key_value_heads: groups,
  intermediate_size: neurons,
  vocab_size: vocabulary,
  tie_word_embeddings: tied,
  rms_norm_eps: 1e-5,
  max_position_embeddings: 2048,
})

const tokens = 512
const text = { source: 'wikitext2', sequenceLength: tokens }
const request: RunRequest = {
  ...{ model: '', method: '2ssp', amount: { sparsity: 0.5 }, options: {}, seed: 0, measures: [], backend: 'auto', precision: 'auto' },
  calibration: text,
  recover: { amount: { tokens: defaultRecoveryTokens }, text },
}

await openBackend()
const rates = await measureRates()
const configs = argv.slice(2).map((path) => [path, JSON.parse(readFileSync(path, 'utf8'))] as const)
const known = Object.entries(shapes).map(([name, shape]) => [name, configOf(shape)] as const)
console.log(
  '| model | trained weights | memory, all weights | memory, low rank | least memory | GFLOP a token | of them the dense model | preview here |',
)
console.log('| --- | --- | --- | --- | --- | --- | --- | --- |')
for (const [name, config] of configs.length > 0 ? configs : known)
  console.log(`| ${[name, ...(await costOf(readSpec(config)))].join(' | ')} |`)

async function costOf(spec: DecoderSpec): Promise<string[]> {
  const [plan] = expectedPlans(spec, request)
  if (!plan) throw new Error('The method says nothing of its plans.')
  const shapesLeft = [...trainedShapes(specWithPlan(spec, plan)).values()]
  const trained = shapesLeft.reduce((sum, shape) => sum + shape.reduce((size, length) => size * length, 1), 0)
  const whole = (['all', 'low-rank'] as const).map((trains) => roomFor(Number.POSITIVE_INFINITY, spec, plan, tokens, trains).bytes)
  const memory = [...whole, leastBytes(spec, plan, tokens)].map((bytes) => Vocabulary.bytes(spec) + bytes)
  const work = await workOf({ path: '', spec, checkpoint: { tensors: new Map() }, tokenizer: undefined }, request)
  const phases = work.phases.filter(({ part }) => part === 'recovery')
  const operations = phases.map(({ attention, mlp, head }) => (attention + mlp + head) / defaultRecoveryTokens)
  const seconds = sumSeconds(estimateRun('2ssp', work, rates, new Experience([], rates)).phases.filter(({ part }) => part === 'recovery'))
  return [
    `${(trained / 1e6).toFixed(0)} million`,
    ...memory.map((bytes) => `${(bytes / 1e9).toFixed(1)} GB`),
    operations.reduce((sum, own) => sum + own, 0).toFixed(2),
    (operations[0] ?? 0).toFixed(2),
    `${seconds.toFixed(0)} s`,
  ]
}
