/** Espalier against the same methods in plain PyTorch, side by side: `npm run bench -- --help`. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { cacheFolder } from '../../src-main/runtime/places.mjs'
import { compareMethod, type MethodReport } from './against/compare.ts'
import { printNotes, printReports } from './against/print.ts'
import { Side } from './against/side.ts'
import { findTorchPython } from './against/torch-python.ts'
import { makeModel, makeWindows, smolShape } from './bench-model.ts'

const help = `npm run bench -- [options]
  --quick            a model of 6 blocks and short windows: under two minutes
  --methods a,b      which methods (2ssp, shortgpt, window_based, shortgpt+window_based, slicegpt, blockpruner, blockpruner_submodule, evopress,
                     evopress_submodule)
  --threads N        threads of both sides; PyTorch takes fewer where it is faster with fewer
  --repeats N        how often methods of a single step are repeated (2)
  --set name=value   an option of the methods, for instance windows=8; may be given several times
  --precision NAME   ours: float32 (as without it), mixed or bfloat16
  --against NAME     PyTorch's: float32 (as without it) or bfloat16
  --decode           answers token by token against llama.cpp instead, of the sample model or of --model PATH
  --device           rates of TensorFlow's own products in float32 and in 16 bits, as a GPU has them, and the device's memory
  --model PATH
  --scale            2SSP, repair and a perplexity of models of 0.1, 1 and 7 billion parameters: estimated and real seconds, memory, bytes
                     read. Resumes after a kill. With --sizes 0.1,1 and --set windows=4, --set tokens=512
  --sizes a,b
  --python PATH      a Python with torch
  --json FILE        the figures as JSON, too`

const { values: flags } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    methods: { type: 'string' },
    threads: { type: 'string', default: String(availableParallelism()) },
    repeats: { type: 'string', default: '2' },
    set: { type: 'string', multiple: true, default: [] },
    precision: { type: 'string', default: 'float32' },
    against: { type: 'string', default: 'float32' },
    decode: { type: 'boolean', default: false },
    device: { type: 'boolean', default: false },
    scale: { type: 'boolean', default: false },
    sizes: { type: 'string' },
    model: { type: 'string', default: join(import.meta.dirname, '../../resources/sample-model') },
    python: { type: 'string' },
    json: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})

/** Sizes that finish in reasonable time, with work of the same shape as the full size. */
const sizes = {
  full: {
    '2ssp': { sparsity: 0.5, windows: 32 },
    shortgpt: { blocks: 8, windows: 8 },
    window_based: { blocks: 8, windows: 8 },
    'shortgpt+window_based': { blocks: 8, windows: 8 },
    slicegpt: { sparsity: 0.25, windows: 4 },
    blockpruner: { blocks: 4 },
    blockpruner_submodule: { blocks: 2 },
    evopress: { blocks: 8, windows: 8, startStates: 16, offspring: 32, finalists: 2, firstWindows: 1, finalWindows: 4, generations: 2 },
    evopress_submodule: {
      blocks: 8,
      windows: 8,
      startStates: 16,
      offspring: 32,
      finalists: 2,
      firstWindows: 1,
      finalWindows: 4,
      generations: 2,
    },
  },
  quick: {
    '2ssp': { sparsity: 0.5, windows: 4 },
    shortgpt: { blocks: 2, windows: 2 },
    window_based: { blocks: 2, windows: 2 },
    'shortgpt+window_based': { blocks: 2, windows: 2 },
    slicegpt: { sparsity: 0.25, windows: 2 },
    blockpruner: { blocks: 2 },
    blockpruner_submodule: { blocks: 1 },
    evopress: { blocks: 2, windows: 4, startStates: 3, offspring: 4, finalists: 2, firstWindows: 1, finalWindows: 2, generations: 1 },
    evopress_submodule: {
      blocks: 2,
      windows: 4,
      startStates: 3,
      offspring: 4,
      finalists: 2,
      firstWindows: 1,
      finalWindows: 2,
      generations: 1,
    },
  },
} as const

const [tokens, windowCount] = flags.quick ? [512, 8] : [2048, 32]

if (flags.help) console.log(help)
else if (flags.decode) await (await import('./against/answers.ts')).compareAnswers(flags.model)
else if (flags.device) await import('./products.ts')
else if (flags.scale) {
  const { measureScale, scaleSizes } = await import('./folder-runs/scale.ts')
  const sizes = flags.sizes?.split(',') ?? scaleSizes
  await measureScale({ sizes, windows: 4, tokens: 512, ...setOptions() })
} else await main()

function setOptions(): Record<string, number> {
  return Object.fromEntries(flags.set.map((entry) => entry.split('=')).map(([name, value]) => [name, Number(value)]))
}

async function main(): Promise<void> {
  const threads = Number(flags.threads)
  const home = join(cacheFolder(), 'bench')
  mkdirSync(home, { recursive: true })
  const python = await findTorchPython(flags.python)
  const shape = { ...smolShape, blocks: flags.quick ? 6 : smolShape.blocks }
  const model = await makeModel(home, shape)
  const windows = join(home, `windows-${tokens}.json`)
  writeFileSync(windows, JSON.stringify(makeWindows(windowCount, tokens, shape.vocabulary)))
  const opening = { command: 'open', model, windows, precision: flags.precision }
  const reference = new Side(python, [join(import.meta.dirname, 'against/reference.py')], process.env)
  const { title } = await reference.ask({ ...opening, precision: flags.against })
  const tuned = await reference.ask({ command: 'tune', threads })
  console.log(
    `Espalier in ${flags.precision}; ${title} in ${flags.against} on ${tuned.threads} of ${threads} threads (${Object.entries(
      tuned.seconds as unknown as object,
    )
      .map(([count, seconds]) => `${count}: ${(seconds as number).toFixed(2)} s`)
      .join(', ')} for a dense pass of ${tokens} tokens)`,
  )
  const given = setOptions()
  const reports: MethodReport[] = []
  const startOurs = () =>
    new Side(process.execPath, ['--disable-warning=ExperimentalWarning', join(import.meta.dirname, 'against/ours.ts')], {
      ...process.env,
      TF_NUM_INTRAOP_THREADS: String(threads),
    })
  for (const [method, defaults] of Object.entries(flags.quick ? sizes.quick : sizes.full)) {
    if (flags.methods && !flags.methods.split(',').includes(method)) continue
    const ours = startOurs()
    const report = await compareMethod({
      method,
      options: { ...defaults, ...given },
      opening,
      ours,
      reference,
      blocks: shape.blocks,
      repeats: Number(flags.repeats),
    })
    ours.end()
    reports.push(report)
    printReports([report])
  }
  reference.end()
  if (reports.length > 1) printReports(reports)
  printNotes(reports)
  if (flags.json)
    writeFileSync(
      flags.json,
      JSON.stringify(
        { precision: flags.precision, against: flags.against, threads, torchThreads: tuned.threads, shape, tokens, reports },
        null,
        2,
      ),
    )
}
