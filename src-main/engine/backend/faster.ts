import { getBackend, removeBackend, setBackend } from '@tensorflow/tfjs-core'
import { toErrorMessage } from '#contract/errors.ts'
import type { Backend } from './active.ts'
import { measureRate, probe } from './probe.ts'

/** Rates of float32 products, in GFLOP/s. */
type Measure = () => Promise<number>

/**
 * How many times as fast another backend must be. Timings vary, and a process with the other backend would find none of this one's steps.
 */
const margin = 1.5

/**
 * The active backend, or another one if that is clearly faster at float32 products, with both rates as the reason. A backend that does not
 * open or computes wrongly is not chosen. The chosen one is active afterwards; the other one is closed if it was not chosen.
 */
export async function takeFaster(
  first: Backend,
  openOther: (reason: string) => Promise<Backend>,
  measure: Measure = measureRate,
): Promise<Backend> {
  const ownRate = await measure()
  const own = first.name.startsWith('tensorflow') ? 'tensorflow' : first.name
  const keepOwn = async (reason: string): Promise<Backend> => {
    const opened = getBackend()
    await setBackend(own)
    if (opened !== own) removeBackend(opened)
    return { ...first, reason: `${first.reason} ${reason}` }
  }
  try {
    const other = await openOther('')
    await probe()
    const rate = await measure()
    const [fast, slow] = [Math.round(rate), Math.round(ownRate)]
    if (rate >= margin * ownRate) return { ...other, reason: `It multiplies at ${fast} GFLOP/s, ${first.title} at ${slow}.` }
    return await keepOwn(`It multiplies at ${slow} GFLOP/s, ${other.title} at ${fast}. A GPU is used if it is ${margin} times as fast.`)
  } catch (thrown) {
    return await keepOwn(`The GPU is not used: ${toErrorMessage(thrown).message}`)
  }
}
