import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { benchFiles } from '#engine/llama/bench-files.ts'
import { LlamaProcess } from '#engine/llama/llama-process.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { sampleModelFolder } from '#runtime/resources.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { skippedBecause } from '../backend/every-device/devices.ts'

const settings = { prompts: [40, 100, 100_000], rounds: 3, threads: 1, device: 'CPU', texts: [] }
const folder = scratchFolder('bench')
let files: string[]
let spec: DecoderSpec
beforeAll(async () => {
  await openBackend('auto')
  const model = await openModel(sampleModelFolder)
  spec = model.spec
  const target = join(folder, 'files')
  await gguf.write({ model, plan: densePlan(model.spec), method: 'dense', folder: target, ggufTypes: ['F16', 'Q8_0'] })
  await model.close()
  files = (await readdir(target)).filter((name) => name.endsWith('.gguf')).map((name) => join(target, name))
})

/** The perplexity of a file's weights, multiplied in float32. */
async function perplexityOf(file: string, windows: readonly Int32Array[]): Promise<number> {
  const model = await openModel(file)
  const result = await perplexity(denseView(model), windows)
  await model.close()
  return result.perplexity
}

test('two files are measured in turns, on prompts that both hold, and their perplexity is that of the weights in the file', async () => {
  const windows = [0, 1].map((start) => Int32Array.from({ length: 100 }, (_, i) => (i * i * 31 + start * 7) % 1000))
  const seen: number[] = []
  const bench = await benchFiles(files, { ...settings, texts: [{ name: 'made', windows }] }, { progress: (done) => seen.push(done) })
  expect(seen).toEqual(Array.from({ length: 2 * (3 + 2) }, (_, i) => i + 1))
  expect(bench.files.map(({ name }) => name).join()).toMatch(/F16\.gguf.*Q8_0\.gguf/)
  for (const [at, file] of bench.files.entries()) {
    const [short, long] = file.firstToken
    expect([short?.tokens, long?.tokens, file.firstToken.length]).toEqual([40, 100, 2])
    expect(long?.seconds.value).toBeGreaterThan(short?.seconds.value as number)
    for (const { low, value, high } of [file.prefill, file.decode, ...file.firstToken.map(({ seconds }) => seconds)])
      expect(low > 0 && low <= value && value <= high).toBe(true)
    expect(Math.abs((file.perplexities[0]?.value as number) / (await perplexityOf(files[at] as string, windows)) - 1)).toBeLessThan(0.005)
    const { keyValueHeads, headSize, blocks } = spec
    const halves = 2 * 2 * keyValueHeads * headSize * blocks.length
    expect(file.keyValueBytes - halves).toBeGreaterThanOrEqual(0)
    expect(file.keyValueBytes - halves).toBeLessThan(64)
    expect(file.memoryBytes).toBeGreaterThan(file.bytes / 2)
  }
})

const noVulkan = skippedBecause('ggml-vulkan')
test.skipIf(noVulkan !== undefined)(`a GPU measures a file too${noVulkan ? ` (does not run: ${noVulkan})` : ''}`, async () => {
  const windows = [Int32Array.from({ length: 32 }, (_, i) => (i * i * 31) % 1000)]
  const texts = [{ name: 'made', windows }]
  const { files: measured } = await benchFiles(files, { ...settings, prompts: [16], rounds: 1, device: 'Vulkan0', texts })
  for (const [at, { perplexities, decode }] of measured.entries()) {
    expect(decode.value).toBeGreaterThan(0)
    // A GPU rounds no rows to 8 bits, as a processor does for Q8_0.
    expect(Math.abs((perplexities[0]?.value as number) / (await perplexityOf(files[at] as string, windows)) - 1)).toBeLessThan(0.001)
  }
})

test('a file that llama.cpp refuses is named, with its reason', async () => {
  const broken = join(folder, 'broken.gguf')
  await writeFile(broken, 'not a model')
  await expect(benchFiles([broken], settings)).rejects.toThrow(/llama\.cpp does not load .*broken\.gguf\. .*invalid magic/s)
})

test('an assertion inside llama.cpp ends only its process, in an error that quotes it', async () => {
  const llama = new LlamaProcess()
  await llama.ask('open', files[0] as string, { context: 64, threads: 1, device: 'CPU' })
  const beyond = llama.ask('loss', new Int32Array(200).fill(7))
  await expect(beyond).rejects.toThrow(/llama\.cpp ended its process in the job "loss" \(SIGABRT\): .*GGML_ASSERT/)
  await expect(llama.ask('loss', new Int32Array(4).fill(7))).rejects.toThrow(/llama\.cpp ended/)
})

test('a token beyond the vocabulary is an error, and the process does the next job', async () => {
  const llama = new LlamaProcess()
  try {
    await llama.ask('open', files[0] as string, { context: 64, threads: 1, device: 'CPU' })
    await expect(llama.ask('loss', new Int32Array(4).fill(1_000_000))).rejects.toThrow(/could not compute 3 tokens \(code -1\)/)
    expect(await llama.ask('loss', new Int32Array(4).fill(7))).toBeGreaterThan(0)
  } finally {
    llama.end()
  }
})

test('a cancelled measurement ends at once', async () => {
  const stop = new AbortController()
  const bench = benchFiles(files, { ...settings, rounds: 1000 }, { signal: stop.signal, progress: () => stop.abort(new Error('stopped')) })
  await expect(bench).rejects.toThrow('stopped')
})

test('an unknown device is refused', async () => {
  await expect(benchFiles(files, { ...settings, device: 'Nothing9' })).rejects.toThrow(/has no device "Nothing9".*espalier devices/)
})

test('a file whose predictions are not numbers is refused with its name and the position, with texts and without', async () => {
  const damaged = join(folder, 'damaged.gguf')
  const bytes = await readFile(files.find((file) => file.includes('F16')) as string)
  // The end of the file is the last tensor's values: NaN in float16 and in float32.
  bytes.fill(0xff, bytes.length - 4096)
  await writeFile(damaged, bytes)
  const texts = [{ name: 'made', windows: [Int32Array.from({ length: 32 }, (_, i) => i)] }]
  for (const more of [{}, { texts }]) {
    const measuring = benchFiles([files[0] as string, damaged], { ...settings, rounds: 1, ...more })
    await expect(measuring).rejects.toThrow(/prediction with damaged\.gguf after 32 tokens is infinite or not a number/)
  }
})

test('a small file opened after a large one has no negative memory', async () => {
  const llama = new LlamaProcess()
  try {
    for (const context of [8192, 128]) await llama.ask('open', files[0] as string, { context, threads: 1, device: 'CPU' })
    expect((await llama.ask('time', [40], 8)).memoryBytes).toBeGreaterThan(0)
  } finally {
    llama.end()
  }
})
