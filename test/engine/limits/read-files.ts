/**
 * A process that may be killed: it reads files one after the other and prints the outcomes.
 * `read-files.ts describe|chat|encode|windows|texts|rows PATH TEXT …`; TEXT is what `encode` encodes.
 */
import { toErrorMessage } from '#contract/errors.ts'
import { readRows } from '#engine/data/rows.ts'
import { readTexts } from '#engine/data/source.ts'
import { readWindows } from '#engine/data/windows.ts'
import { dieAtLimits, underLimits } from '#engine/limits/reading.ts'
import { describeModel } from '#engine/tasks/describe-model.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'

const readers: Record<string, (path: string, text: string) => Promise<unknown>> = {
  describe: async (path) => (await describeModel(path)).chatTemplate,
  chat: async (path) => (await openTokenizer(path)).chat([{ role: 'user', content: 'x' }]),
  encode: async (path, text) => {
    const tokenizer = await openTokenizer(path)
    // The watcher is awake by then, so nothing but the shared memory says that another section begins.
    for (let times = 0; times < 1000; times += 1) tokenizer.encode('b')
    await new Promise((resolve) => setTimeout(resolve, 100))
    return tokenizer.encode(text).length
  },
  windows: async (path) => (await readWindows(path, undefined, { sequenceLength: 2 })).tokens,
  texts: (path) => underLimits(path, async () => (await readTexts(path)).length),
  rows: (path) => underLimits(path, async () => (await Array.fromAsync(readRows(path))).length),
}

dieAtLimits()
const outcomes: unknown[] = []
for (let words = process.argv.slice(2); words.length > 0; words = words.slice(3)) {
  const [kind = '', path = '', text = ''] = words
  const outcome = await readers[kind]?.(path, text).then(
    (value) => ({ value }),
    (thrown: unknown) => ({ error: toErrorMessage(thrown) }),
  )
  outcomes.push(outcome)
}
console.log(JSON.stringify(outcomes))
process.exit(0)
