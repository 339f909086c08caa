import { platform } from 'node:process'
import { getBackend, removeBackend, setBackend } from '@tensorflow/tfjs-core'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { BackendName } from '#contract/runs/run-request.ts'
import { findGgml } from '#runtime/ggml.mjs'
import { type Backend, setActiveBackend } from './active.ts'
import { findGpu, openGgml, openGgmlGpu } from './ggml/open.ts'
import { measureRate, probe } from './probe.ts'
import { openTensorflow } from './tensorflow.ts'

let opened: { requested: BackendName; backend: Promise<Backend> } | undefined
let checked: Promise<void> | undefined

/** Opens a runtime as `loadBackend` does, and checks it with a known product. Throws if it computes wrongly. */
export async function openBackend(name: BackendName = 'auto'): Promise<Backend> {
  const backend = await loadBackend(name)
  checked ??= probe()
  await checked
  return backend
}

/**
 * Returns the runtime of this process without checking it. `auto` chooses TensorFlow, or ggml on the processor if TensorFlow cannot run. A
 * GPU through ggml replaces either if it is clearly faster. A process keeps the first runtime that opens. Throws `conflict` with
 * `anotherProcess` if a different one is requested; the host then starts another process.
 */
export async function loadBackend(name: BackendName): Promise<Backend> {
  opened ??= { requested: name, backend: start(name) }
  const { requested, backend } = opened
  const found = await backend.catch((thrown: unknown) => {
    opened = undefined
    throw thrown
  })
  if (serves(found, requested, name)) return found
  throw new EspalierError('conflict', `This process computes with ${found.name}, so ${name} needs another process.`, {
    anotherProcess: true,
  })
}

const kinds = { 'tensorflow-gpu': 'tensorflow', 'tensorflow-cpu': 'tensorflow', 'ggml-cpu': 'ggml', 'ggml-gpu': 'ggml-gpu' } as const

/**
 * Whether `choose(wanted)` would open the runtime that is already open. `requested` is what this process was first asked for. If that was
 * not `auto`, TensorFlow on the processor was never compared with a GPU, so it serves `auto` only where there is no real GPU.
 */
function serves({ name }: Backend, requested: BackendName, wanted: BackendName): boolean {
  if (wanted === requested || wanted === kinds[name]) return true
  return wanted === 'auto' && (name === 'tensorflow-gpu' || (name === 'tensorflow-cpu' && !hasRealGpu()))
}

async function start(name: BackendName): Promise<Backend> {
  const backend = await choose(name)
  setActiveBackend(backend)
  return backend
}

async function choose(name: BackendName): Promise<Backend> {
  if (name === 'ggml') return openGgml('Chosen by the user.')
  if (name === 'ggml-gpu') return openGgmlGpu('Chosen by the user.')
  if (name === 'tensorflow') return openTensorflow()
  const first = await openTensorflow().catch((thrown: unknown) => openGgml(toErrorMessage(thrown).message))
  return first.name === 'tensorflow-gpu' || !hasRealGpu() ? first : takeFaster(first, openGgmlGpu)
}

function hasRealGpu(): boolean {
  // Looking for a GPU takes longer than a short request, so look only where an installed library could find one.
  if (platform !== 'darwin' && !findGgml('ggml-vulkan')) return false
  try {
    return findGpu()?.isSimulated === false
  } catch {
    return false
  }
}

/** Rates of float32 products, in GFLOP/s. */
type Measure = () => Promise<number>

/**
 * How many times as fast another backend must be. Timings vary, and a process with another backend cannot reuse the steps that runs on the
 * first backend stored.
 */
const margin = 1.5

/**
 * Chooses between the active backend `first` and another one, which must be clearly faster at float32 products. Returns the choice with
 * both rates as its reason, and makes it the active backend. If the other backend does not open or computes wrongly, `first` is kept. A
 * rejected other backend is closed.
 */
export async function takeFaster(
  first: Backend,
  openOther: (reason: string) => Promise<Backend>,
  measure: Measure = measureRate,
): Promise<Backend> {
  const firstRate = await measure()
  const firstName = first.name.startsWith('tensorflow') ? 'tensorflow' : first.name
  const keepFirst = async (reason: string): Promise<Backend> => {
    const opened = getBackend()
    await setBackend(firstName)
    if (opened !== firstName) removeBackend(opened)
    return { ...first, reason: `${first.reason} ${reason}` }
  }
  try {
    const other = await openOther('')
    await probe()
    const rate = await measure()
    const [ofOther, ofFirst] = [Math.round(rate), Math.round(firstRate)]
    if (rate >= margin * firstRate) return { ...other, reason: `It multiplies at ${ofOther} GFLOP/s, ${first.title} at ${ofFirst}.` }
    return await keepFirst(
      `It multiplies at ${ofFirst} GFLOP/s, ${other.title} at ${ofOther}. A GPU is used if it is at least ${margin} times as fast.`,
    )
  } catch (thrown) {
    return await keepFirst(`The GPU is not used: ${toErrorMessage(thrown).message}`)
  }
}
