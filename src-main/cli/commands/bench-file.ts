import { basename, resolve } from 'node:path'
import type { Input } from '#contract/api.ts'
import { type BeginChoice, beginChoice, beginText } from '#contract/data/begin-token.ts'
import { EspalierError } from '#contract/errors.ts'
import { type Figure, type FileBench, mostFiles, usualPrompts, usualRounds } from '#contract/exports/file-bench.ts'
import { existing } from '../flags/flag-values.ts'
import { followTransfer } from './output/follow-transfer.ts'
import { printJson, printTable, showBytes } from './output/print.ts'
import { commonFlags, commonHelp, readCount, readFlags } from './read-flags.ts'
import { command } from './run-command.ts'
import { isRemote, withWorkbench } from './with-workbench.ts'

const help = `espalier bench-file FILE… [--against DENSE] [--text TEXT]… [--prompts LIST] [--rounds N] [--threads N] [--device NAME]

Loads GGUF files in llama.cpp, each in its own process, and measures them in interleaved rounds on this machine: prefill
and decode rates, time to the first token, memory, KV-cache bytes per token, and perplexity. Values are
medians of all rounds, with the lowest and the highest. Other busy programs distort them.

  --against DENSE      a file to measure first and compare with, such as the dense model in F16
  --text TEXT          a text file or data set to measure perplexity on (may be repeated)
  --sequence_length N  tokens per window (default: 512)
  --windows N          at most this many windows per text (default: 20)
  --begin_token NAME   whether each window begins with the begin token (BOS): reference (never), always, or auto: if that
                       lowers the perplexity of the first file on a few windows by more than a tenth (default)
  --prompts LIST       prompt lengths in tokens (default: ${usualPrompts.join(',')}); lengths beyond a file's context are skipped
  --rounds N           timing rounds (default: ${usualRounds})
  --threads N          threads (default: TF_NUM_INTRAOP_THREADS, else one per processor)
  --device NAME        a ggml device that "espalier devices" lists (default: CPU)
${commonHelp}`

const flags = {
  ...commonFlags,
  against: { type: 'string' },
  text: { type: 'string', multiple: true },
  sequence_length: { type: 'string', default: '512' },
  windows: { type: 'string', default: '20' },
  begin_token: { type: 'string', default: 'auto' },
  prompts: { type: 'string', default: usualPrompts.join(',') },
  rounds: { type: 'string', default: String(usualRounds) },
  threads: { type: 'string' },
  device: { type: 'string', default: 'CPU' },
} as const

export const benchFile = command('bench-file', help, async (given) => {
  const { values, words } = readFlags(given, flags, { least: 1, most: mostFiles, name: 'A GGUF file' })
  const files = [...(values.against === undefined ? [] : [values.against]), ...words]
  if (files.length > mostFiles)
    throw new EspalierError('usage', `${files.length} files were given; at most ${mostFiles} are measured together.`)
  const toPath = (path: string) => (isRemote(values) ? path : resolve(path))
  const toText = (source: string) => (isRemote(values) ? source : existing('text', source))
  const window = {
    sequenceLength: readCount(values.sequence_length, '--sequence_length', 2 ** 20),
    windows: readCount(values.windows, '--windows', 1_000_000),
  }
  const sources = values.text ?? []
  const names = sources.map((source) => basename(source))
  // Two files of one name have different columns.
  const nameOf = (name: string, at: number) => (names.indexOf(name) === names.lastIndexOf(name) ? name : (sources[at] as string))
  const request: Input<'bench.files'> = {
    files: files.map(toPath),
    texts: sources.map((source, at) => ({ name: nameOf(names[at] as string, at), data: { source: toText(source), ...window } })),
    beginToken: readBegin(values.begin_token),
    prompts: values.prompts.split(',').map((length) => readCount(length, '--prompts', 2 ** 20)),
    rounds: readCount(values.rounds, '--rounds', 100),
    device: values.device,
    ...(values.threads === undefined ? {} : { threads: readCount(values.threads, '--threads', 1024) }),
  }
  const { bench } = await withWorkbench(values, (door) => followTransfer(door, () => door.call('bench.files', request)))
  if (!bench) throw new EspalierError('internal', 'The measurement ended without a result.')
  if (values.json) printJson(bench)
  else print(bench)
  return 0
})

function readBegin(text: string): BeginChoice {
  const read = beginChoice.safeParse(text)
  if (!read.success) throw new EspalierError('usage', `--begin_token is "${text}"; it must be ${beginChoice.options.join(', ')}.`)
  return read.data
}

/** Formats a median with its range. */
function show({ value, low, high }: Figure, digits: number): string {
  return `${value.toFixed(digits)} (${low.toFixed(digits)}–${high.toFixed(digits)})`
}

function print({ release, device, threads, rounds, context, beginToken, files }: FileBench): void {
  const [first] = files
  console.log(
    `llama.cpp release ${release} on ${device}, ${threads} threads, context ${context}, ${rounds} interleaved rounds: median (low–high)`,
  )
  if (beginToken) console.log(beginText(beginToken))
  printTable(
    [
      ...['FILE', 'SIZE', 'MEMORY', 'KV BYTES/TOKEN', 'PREFILL TOKENS/S', 'DECODE TOKENS/S'],
      ...(first?.firstToken ?? []).map(({ tokens }) => `FIRST TOKEN AT ${tokens}, MS`),
      ...(first?.perplexities ?? []).map(({ name }) => `PERPLEXITY ON ${name}`),
    ],
    files.map((file) => [
      file.name,
      showBytes(file.bytes),
      showBytes(file.memoryBytes),
      Math.round(file.keyValueBytes),
      show(file.prefill, 1),
      show(file.decode, 1),
      ...file.firstToken.map(({ seconds: { value, low, high } }) => show({ value: 1000 * value, low: 1000 * low, high: 1000 * high }, 0)),
      ...file.perplexities.map(({ value }) => value.toFixed(3)),
    ]),
  )
}
