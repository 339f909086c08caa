/** Espalier against the same methods in plain PyTorch, side by side: `npm run bench -- --help`. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { hermeticEnvironment } from '../../src-main/jobs/compute/environment.ts'
import { cacheFolder } from '../../src-main/runtime/places.mjs'
import { makeModel, makeWindows, smolShape } from '../fixtures/bench-model.ts'
import { compareMethod, type MethodReport } from './against/compare.ts'
import { printNotes, printReports } from './against/print.ts'
import { Side } from './against/side.ts'
import { findTorchPython } from './against/torch-python.ts'

const help = `npm run bench -- [options]
  --quick            a model of 6 blocks and short windows: under two minutes
  --table            the table of docs/speed.md: float32 and mixed beside PyTorch in float32 and bfloat16, small sizes, 20 to 40 minutes
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
    table: { type: 'boolean', default: false },
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

/** Both searches by evolution, with the same options. */
const evolutions = <Options>(options: Options) => ({ evopress: options, evopress_submodule: options })

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
    ...evolutions({
      blocks: 8,
      windows: 8,
      startStates: 16,
      offspring: 32,
      finalists: 2,
      firstWindows: 1,
      finalWindows: 4,
      generations: 2,
    }),
  },
  table: {
    '2ssp': { sparsity: 0.5, windows: 4, attention: 1 },
    shortgpt: { blocks: 8, windows: 2 },
    window_based: { blocks: 8, windows: 2 },
    'shortgpt+window_based': { blocks: 8, windows: 2 },
    slicegpt: { sparsity: 0.25, windows: 2 },
    blockpruner: { blocks: 1 },
    blockpruner_submodule: { blocks: 1 },
    ...evolutions({ blocks: 8, windows: 4, startStates: 4, offspring: 6, finalists: 2, firstWindows: 1, finalWindows: 2, generations: 1 }),
  },
  quick: {
    '2ssp': { sparsity: 0.5, windows: 4 },
    shortgpt: { blocks: 2, windows: 2 },
    window_based: { blocks: 2, windows: 2 },
    'shortgpt+window_based': { blocks: 2, windows: 2 },
    slicegpt: { sparsity: 0.25, windows: 2 },
    blockpruner: { blocks: 2 },
    blockpruner_submodule: { blocks: 1 },
    ...evolutions({ blocks: 2, windows: 4, startStates: 3, offspring: 4, finalists: 2, firstWindows: 1, finalWindows: 2, generations: 1 }),
  },
} as const

/** Our precisions beside PyTorch's. */
const compared = flags.table
  ? ([
      ['float32', 'float32'],
      ['mixed', 'float32'],
      ['mixed', 'bfloat16'],
    ] as const)
  : ([[flags.precision, flags.against]] as const)

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
  const opening = { command: 'open', model, windows }
  const references = new Map<string, Side>()
  for (const precision of new Set(compared.map(([, against]) => against))) {
    const reference = new Side(python, [join(import.meta.dirname, 'against/reference.py')], process.env)
    references.set(precision, reference)
    const { title } = await reference.ask({ ...opening, precision })
    const tuned = await reference.ask({ command: 'tune', threads })
    const tried = Object.entries(tuned.seconds as unknown as Record<string, number>).map(
      ([count, seconds]) => `${count}: ${seconds.toFixed(2)} s`,
    )
    console.log(
      `${title} in ${precision} on ${tuned.threads} of ${threads} threads (${tried.join(', ')} for a dense pass of ${tokens} tokens)`,
    )
  }
  const all: MethodReport[][] = []
  for (const [method, defaults] of Object.entries(sizes[flags.table ? 'table' : flags.quick ? 'quick' : 'full'])) {
    if (flags.methods && !flags.methods.split(',').includes(method)) continue
    const ours = await openOurs(opening, threads)
    const pairs = compared.map(([own, against]) => ({ ...(ours.get(own) as OpenSide), reference: references.get(against) as Side }))
    const options = { ...defaults, ...setOptions() }
    const reports = await compareMethod({ method, options, pairs, blocks: shape.blocks, repeats: Number(flags.repeats) })
    for (const one of ours.values()) one.ours.end()
    all.push(reports)
    printReports(reports, compared)
  }
  for (const reference of references.values()) reference.end()
  if (all.length > 1) printReports(all.flat(), compared)
  printNotes(all.flat())
  if (flags.json) writeFileSync(flags.json, JSON.stringify({ compared, threads, shape, tokens, reports: all }, null, 2))
}

interface OpenSide {
  readonly ours: Side
  readonly weightBytes: number
}

/** A process of ours for each precision. */
async function openOurs(opening: object, threads: number): Promise<Map<string, OpenSide>> {
  const sides = new Map<string, OpenSide>()
  for (const precision of new Set(compared.map(([own]) => own))) {
    const ours = new Side(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', join(import.meta.dirname, 'against/ours.ts')],
      hermeticEnvironment(process.env, { TF_NUM_INTRAOP_THREADS: String(threads) }),
    )
    const { weightBytes } = await ours.ask({ ...opening, precision })
    sides.set(precision, { ours, weightBytes: weightBytes as number })
  }
  return sides
}
