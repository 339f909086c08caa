import { getBackend, removeBackend, setBackend } from '@tensorflow/tfjs-core'
import { toErrorMessage } from '#contract/errors.ts'
import type { Backend } from './active.ts'
import { measureRate, probe } from './probe.ts'

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
