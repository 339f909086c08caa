import { readFile } from 'node:fs/promises'
import type { Input } from '#contract/api.ts'
import { EspalierError } from '#contract/errors.ts'
import { parsePrompts } from '#contract/prompt-lines.ts'
import { commonFlags, commonHelp, readCount, readFlags } from './flags.ts'
import { startDrafts } from './follow-runs.ts'
import { guarded, type Verb } from './run-command.ts'
import { type CommandDoor, withWorkbench } from './with-workbench.ts'

export const answerHelp = `espalier answer RUN… --prompts FILE [--tokens N] [--temperature X] [--seed N] [--without_dense] [--wait]

Lets runs of one model answer a set of prompts, as a run of the queue; the answers are kept as a transcript, to be compared or judged.

  --prompts FILE       one prompt a line; words with # at a line's end are its tags
  --tokens N           new tokens of an answer at most (default 64)
  --temperature X      0 takes the likeliest token each time (default 0)
  --seed N             where sampling begins (default 0)
  --without_dense      leave the dense model out
  --wait               wait for the run to end, also when a server does it
${commonHelp}`

const flags = {
  ...commonFlags,
  prompts: { type: 'string' },
  tokens: { type: 'string', default: '64' },
  temperature: { type: 'string', default: '0' },
  seed: { type: 'string', default: '0' },
  without_dense: { type: 'boolean', default: false },
  wait: { type: 'boolean', default: false },
} as const

export const answer: Verb = (parameters) =>
  guarded('answer', answerHelp, parameters, async (given) => {
    const { values, words } = readFlags(given, flags, { least: 1, most: 50, name: 'The id of a run' })
    if (values.prompts === undefined) throw new EspalierError('usage', '--prompts is missing: a file with one prompt a line.')
    const temperature = Number(values.temperature)
    if (!(temperature >= 0 && temperature <= 5))
      throw new EspalierError('usage', `--temperature ${values.temperature} is not a number from 0 to 5.`)
    const seed = values.seed === '0' ? 0 : readCount(values.seed, '--seed', 2 ** 31)
    const inspect: Input<'runs.inspect'>['inspect'] = {
      kind: 'generation',
      runs: words,
      dense: !values.without_dense,
      prompts: await readPrompts(values.prompts),
      settings: {
        decoding: { kind: 'sampling', temperature },
        maxTokens: readCount(values.tokens, '--tokens', 8192),
        seed,
        alternatives: 0,
      },
    }
    const work = async (door: CommandDoor) => {
      const made = await door.call('runs.inspect', { inspect, start: 'draft' })
      return startDrafts(door, [made.id], values)
    }
    return withWorkbench(values, work, { computes: true })
  })

async function readPrompts(file: string): Promise<{ text: string; tags: string[] }[]> {
  const text = await readFile(file, 'utf8').catch(() => {
    throw new EspalierError('usage', `--prompts is "${file}", which cannot be read.`)
  })
  return parsePrompts(text)
}
