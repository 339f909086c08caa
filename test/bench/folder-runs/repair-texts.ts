import { defaultRepairData } from '#contract/pruning/repair.ts'
import { locateBundled } from '#engine/data/bundled.ts'
import { readData } from '#engine/data/read-data.ts'
import { readWindows, type Windows } from '#engine/data/windows.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import type { Model } from '#engine/model/model.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'

/** Tokens of a window: the context length of the model. */
export const windowTokens = ({ spec }: Model): number => Math.min(512, spec.contextLength)

const bundled = ['prose', 'code', 'spanish'] as const

/** The texts for perplexities: the test text, and the bundled ones that no choice uses. */
export const testNames: readonly string[] = ['test', ...bundled]

export async function readText(model: Model, path: string, windows: number, seed: number): Promise<Windows> {
  return (await readWindows(path, await openTokenizer(model.path), { sequenceLength: windowTokens(model), maxWindows: windows, seed }))
    .windows
}

/** The text that a repair is fitted on by default. */
export async function readRepairText(model: Model, calibration: string, seed: number): Promise<Windows> {
  const data = defaultRepairData({ source: calibration, sequenceLength: windowTokens(model) })
  return (await readData(model, await openTokenizer(model.path), data, seed, {})).windows
}

export async function perplexitiesOf(view: ModelView, testPath: string): Promise<Record<string, number>> {
  const found: Record<string, number> = {}
  for (const { name, windows } of await readEach(view.model, testPath)) found[name] = (await perplexity(view, windows)).perplexity
  return found
}

/** The windows of all these texts. */
export async function readTests(model: Model, testPath: string): Promise<Windows> {
  return (await readEach(model, testPath)).flatMap(({ windows }) => [...windows])
}

async function readEach(model: Model, testPath: string): Promise<{ name: string; windows: Windows }[]> {
  const tests = [{ name: 'test', path: testPath, windows: 20 }, ...bundled.map((name) => ({ name, path: locateBundled(name), windows: 6 }))]
  return Promise.all(tests.map(async ({ name, path, windows }) => ({ name, windows: await readText(model, path, windows, 0) })))
}
