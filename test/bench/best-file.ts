/**
 * One budget for the types of all tensors against llama.cpp's mixes: `npm run bench -- best-file MODEL FOLDER [MIX,...] [begin]`.
 *
 * Writes the model in each mix, and for the bytes of each a file whose types the price list chose. Prints a line of JSON for each file:
 * bytes and the divergence from the source model on held-out texts. FOLDER keeps steps and results. With `begin`, windows begin with the
 * model's begin token.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { argv } from 'node:process'
import { slice, type Tensor2D, tensor2d, tidy } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { writeGguf } from '#engine/checkpoint/gguf/write-gguf.ts'
import { readData } from '#engine/data/read-data.ts'
import type { Windows } from '#engine/data/windows.ts'
import { beginTokenOf } from '#engine/evaluation/begin-token.ts'
import { layOutGguf } from '#engine/export/gguf/gguf-file.ts'
import { measureImportances } from '#engine/export/gguf/importances.ts'
import { mixTypes } from '#engine/export/mixed-types/mixed-types.ts'
import { finalHidden, runWindows } from '#engine/model/forward.ts'
import { type Model, openModel, withProducts } from '#engine/model/model.ts'
import { type HeadChunk, headLogits } from '#engine/model/parts/head/embedding-and-head.ts'
import { compareLogits } from '#engine/model/parts/head/token-losses.ts'
import { productsFor } from '#engine/model/precision.ts'
import { denseView } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { baseOf, FolderRun } from './folder-runs/folder-run.ts'

const [path = '', folder = '', list = 'Q4_K_M,Q3_K_M,IQ3_XXS,IQ2_M', begins = ''] = argv.slice(2)
mkdirSync(folder, { recursive: true })
const log = (text: string) => console.error(`${new Date().toISOString().slice(11, 19)} ${text}`)
await openBackend()
const model = withProducts(await openModel(path), productsFor('mixed'))
const tokenizer = await openTokenizer(path)
const view = denseView(withProducts(model, productsFor('bfloat16')))
const planned = { model, plan: densePlan(model.spec) }
const begin = begins === 'begin' ? beginTokenOf({ spec: model.spec, tokenizer })?.id : undefined
const read = async (source: string, windows: number) =>
  (await readData(model, tokenizer, { source, sequenceLength: 512, windows }, 0, { begin })).windows

const calibration = await read('mixed', 32)
log('importances')
const importances = await measureImportances(view, calibration, ['mixed'])

class PrintingRun extends FolderRun {
  override progress(...[phase, done, total]: [string?, number?, number?]): void {
    log(`${phase} ${done}/${total}`)
  }
}

const run = new PrintingRun(folder, await baseOf(model, 'mixed'), 0)

const texts: Record<string, Windows> = {}
for (const source of ['prose', 'code']) texts[source] = await read(source, 6)
log('dense states')
const denseStates = await statesOf(model)
const denseHead = await headOf(model)

async function headOf({ vocabulary }: Model): Promise<HeadChunk> {
  const chunks: HeadChunk[] = []
  await vocabulary.forEachHeadChunk((own) => void chunks.push(own))
  if (chunks.length > 1) throw new Error('the head does not fit')
  return chunks[0] as HeadChunk
}

async function statesOf(own: Model): Promise<Record<string, Float32Array>> {
  const found: Record<string, Float32Array> = {}
  for (const [name, windows] of Object.entries(texts)) {
    const ofWindows: Float32Array[] = []
    await runWindows(denseView(own), windows, {
      afterStack({ indices }, x) {
        const final = finalHidden(denseView(own), x)
        const values = final.dataSync() as Float32Array
        const width = values.length / indices.length
        for (const [i, index] of indices.entries()) ofWindows[index] = values.slice(i * width, (i + 1) * width)
        final.dispose()
      },
    })
    found[name] = Float32Array.from({ length: ofWindows.reduce((sum, { length }) => sum + length, 0) })
    let offset = 0
    for (const values of ofWindows) {
      found[name].set(values, offset)
      offset += values.length
    }
  }
  return found
}

/** The mean divergence from the source model in nats per token. */
async function divergences(file: string): Promise<Record<string, number>> {
  const own = withProducts(await openModel(file), productsFor('mixed'))
  const states = await statesOf(own)
  const head = await headOf(own)
  const found: Record<string, number> = {}
  for (const name of Object.keys(texts)) {
    const [a, b] = [denseStates[name], states[name]].map((values) => {
      return tensor2d(values as Float32Array, [(values as Float32Array).length / model.spec.hidden, model.spec.hidden])
    }) as [Tensor2D, Tensor2D]
    let sum = 0
    for (let row = 0; row < a.shape[0]; row += 64) {
      tidy(() => {
        const rows = Math.min(64, a.shape[0] - row)
        const logits = [headLogits(slice(a, [row, 0], [rows, -1]), denseHead), headLogits(slice(b, [row, 0], [rows, -1]), head)] as const
        const { shift, denseLog, ownLog } = compareLogits(logits[0], logits[1], 1)
        for (let i = 0; i < rows; i++) sum += at(shift, i) - at(denseLog, i) + at(ownLog, i)
      })
    }
    found[name] = sum / a.shape[0]
    a.dispose()
    b.dispose()
  }
  await own.close()
  return found
}

const results = join(folder, 'results.jsonl')
const done = existsSync(results)
  ? readFileSync(results, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as { name: string; bytes: number })
  : []

async function measure(name: string, type: string, plan: Plan = planned.plan, predicted?: number): Promise<number> {
  const known = done.find((one) => one.name === name)
  if (known) return known.bytes
  const file = layOutGguf({ ...planned, plan }, type, importances)
  const to = join(folder, 'file.gguf')
  log(`writing ${name}, ${(file.bytes / 1e6).toFixed(1)} MB`)
  await writeGguf(to, new Map(file.metadata), file.tensors)
  log('measuring')
  const line = { name, bytes: file.bytes, ...(await divergences(to)), ...(predicted === undefined ? {} : { predicted }) }
  rmSync(to)
  appendFileSync(results, `${JSON.stringify(line)}\n`)
  console.log(JSON.stringify(line))
  return file.bytes
}

for (const mix of list.split(',')) {
  const bytes = await measure(mix, mix)
  const type = `MIXED:${bytes}`
  const bytesOf = async (plan: Plan) => layOutGguf({ ...planned, plan }, type).bytes
  const { plan, mixed } = await mixTypes({ planned, view, windows: calibration, importances, bytes, bytesOf, run })
  writeFileSync(join(folder, `types-${mix}.json`), JSON.stringify(plan.types, null, 1))
  await measure(`chosen ${mix}`, type, plan, mixed.divergence)
}
await model.close()
