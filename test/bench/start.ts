/**
 * How long until a compute process answers: `npm run bench -- start [model] [--rounds N]`. A fresh process that is asked for one token of
 * an answer: it has said that it is ready, loaded the runtime, opened the model and fed a prompt by then; and the same process once more.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { GenerationRequest } from '#contract/playground/generation.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { ComputeHost } from '#jobs/compute/compute-host.ts'
import { keepCompiled } from '../../src-main/runtime/compiled.mjs'

keepCompiled()
const { values: flags, positionals } = parseArgs({ allowPositionals: true, options: { rounds: { type: 'string', default: '3' } } })
const [model = join(import.meta.dirname, '../../resources/sample-model')] = positionals
const tensorFolder = mkdtempSync(join(tmpdir(), 'espalier-start-'))
const environment = Object.fromEntries(Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined))
const settings = {
  template: 'raw',
  decoding: { kind: 'sampling', temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 },
  maxTokens: 1,
  seed: 0,
  alternatives: 1,
} as const
const request: GenerationRequest = {
  model,
  columns: [{ plan: null, fingerprint: null }],
  prompts: [{ text: 'Once upon a time' }],
  settings,
  backend: 'auto',
}

for (let round = 1; round <= Number(flags.rounds); round++) {
  const host = new ComputeHost({ command: defaultComputeCommand(), environment, tensorFolder })
  const fresh = await secondsToAnswer(host)
  const warm = await secondsToAnswer(host)
  console.log(`round ${round}: a fresh process answers after ${fresh.toFixed(2)} s, a warm one after ${warm.toFixed(2)} s`)
  await host.close()
}
rmSync(tensorFolder, { recursive: true, force: true })

async function secondsToAnswer(host: ComputeHost): Promise<number> {
  const start = performance.now()
  let failed: unknown
  const onEvent = (event: unknown) => {
    if ((event as { problem?: string | null }).problem) failed = (event as { problem: string }).problem
  }
  await host.perform({ kind: 'generate', request }, { onEvent }).result
  if (failed) throw new Error(String(failed))
  return (performance.now() - start) / 1000
}
