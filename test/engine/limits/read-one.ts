/**
 * A process that may be killed: it reads one file and prints the outcome. `read-one.ts describe|chat|encode|windows|texts|rows PATH [TEXT]`
 */
import { toErrorMessage } from '#contract/errors.ts'
import { readRows } from '#engine/data/rows.ts'
import { readTexts } from '#engine/data/source.ts'
import { readWindows } from '#engine/data/windows.ts'
import { dieAtLimits, underLimits } from '#engine/limits/reading.ts'
import { describeModel } from '#engine/tasks/describe-model.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'

const [kind, path = '', text = ''] = process.argv.slice(2)

const readers: Record<string, () => Promise<unknown>> = {
  describe: async () => (await describeModel(path)).chatTemplate,
  chat: async () => (await openTokenizer(path)).chat([{ role: 'user', content: 'x' }]),
  encode: async () => (await openTokenizer(path)).encode(text).length,
  windows: async () => (await readWindows(path, undefined, { sequenceLength: 2 })).tokens,
  texts: () => underLimits(path, async () => (await readTexts(path)).length),
  rows: () => underLimits(path, async () => (await Array.fromAsync(readRows(path))).length),
}

dieAtLimits()
const outcome = await readers[kind as string]?.().then(
  (value) => ({ value }),
  (thrown: unknown) => ({ error: toErrorMessage(thrown) }),
)
console.log(JSON.stringify({ ...outcome, memoryBytes: process.resourceUsage().maxRSS * 1024 }))
process.exit(0)
