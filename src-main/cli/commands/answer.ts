import type { Input } from '#contract/api.ts'
import { EspalierError } from '#contract/errors.ts'
import { parsePrompts } from '#contract/playground/playground.ts'
import { doDrafts, reportStarted } from './output/follow-runs.ts'
import { printable, printJson, printTable, showPercent } from './output/print.ts'
import { commonFlags, commonHelp, numberOf, readCount, readFlagFile, readFlags } from './read-flags.ts'
import { command } from './run-command.ts'
import { type CommandDoor, withWorkbench } from './with-workbench.ts'

const help = `espalier answer RUN… --prompts FILE [--tokens N] [--temperature X] [--seed N] [--without_dense] [--wait]

Generates answers to a set of prompts with a dense model and its pruned runs. The work is itself a run in the queue, and the answers
become a transcript to compare or judge. Prints the answers, and for each model their mean length, their repetition, the share that
end in a loop, and the share of tokens equal to the first model's.

  --prompts FILE       one prompt per line; words with # at the end of a line become tags of its prompt
  --tokens N           at most this many new tokens per answer (default 64)
  --temperature X      0 always takes the likeliest token; at most 5 (default 0)
  --seed N             seed for sampling (default 0)
  --without_dense      leave the dense model out
  --wait               wait for the run to end, even if a server computes it
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

export const answer = command('answer', help, async (given) => {
  const { values, words } = readFlags(given, flags, { least: 1, most: 50, name: 'The id of a run' })
  if (values.prompts === undefined) throw new EspalierError('usage', '--prompts is missing: give a file with one prompt per line.')
  const temperature = numberOf(values.temperature)
  if (!(temperature >= 0 && temperature <= 5))
    throw new EspalierError('usage', `--temperature is "${values.temperature}"; it must be a number from 0 to 5.`)
  const inspect: Input<'runs.inspect'>['inspect'] = {
    kind: 'generation',
    runs: words,
    dense: !values.without_dense,
    prompts: parsePrompts(await readFlagFile(values.prompts, '--prompts')),
    settings: {
      decoding: { kind: 'sampling', temperature },
      maxTokens: readCount(values.tokens, '--tokens', 8192),
      seed: readCount(values.seed, '--seed', 2 ** 31, 0),
      alternatives: 0,
    },
  }
  const work = async (door: CommandDoor) => {
    const made = await door.call('runs.inspect', { inspect, start: 'draft' })
    const runs = await doDrafts(door, [made.id], values.wait)
    const [run] = runs
    return run?.status === 'done' ? showAnswers(door, run.id, values.json) : reportStarted(door, runs, values)
  }
  return withWorkbench(values, work, { computes: true })
})

/** Prints the answers and their measures, with `--json` every token too. Returns the exit code. */
async function showAnswers({ call }: CommandDoor, id: string, json: boolean): Promise<number> {
  const { inspected } = await call('runs.get', { id })
  if (inspected?.kind !== 'generation') return 1
  const { columns } = inspected
  const transcript = await call('transcripts.get', { id: inspected.transcript })
  if (json) {
    printJson({ run: id, columns, transcript })
    return 0
  }
  const names = columns.map(({ run }) => run?.name ?? 'dense')
  printTable(
    ['MODEL', 'TOKENS', 'EQUAL TOKENS', 'REPETITION', 'LOOPS'],
    columns.map(({ tokens, equal, repetition, looping = null }, column) => [
      names[column] ?? '',
      Number(tokens.toFixed(1)),
      showPercent(equal),
      showPercent(repetition),
      showPercent(looping),
    ]),
  )
  for (const [prompt, text] of transcript.prompts.entries()) {
    console.log(`\n> ${printable(text)}`)
    for (const { column, text: answered } of transcript.answers.filter((one) => one.prompt === prompt))
      console.log(`${printable(names[column] ?? '')}: ${printable(answered.trim())}`)
  }
  return 0
}
