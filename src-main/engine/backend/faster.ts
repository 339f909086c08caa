import { setBackend } from '@tensorflow/tfjs-core'
import { toErrorMessage } from '#contract/errors.ts'
import type { Backend } from './active.ts'
import { measureRate, probe } from './probe.ts'

/** Rates of float32 products, in GFLOP/s. */
type Measure = () => Promise<number>

/**
 * The faster of the backend that computes and of another one, by the rate of float32 products, with both rates as the reason. One that
 * does not open or computes wrongly is not taken. The taken one computes afterwards.
 */
export async function takeFaster(
  first: Backend,
  openOther: (reason: string) => Promise<Backend>,
  measure: Measure = measureRate,
): Promise<Backend> {
  const ownRate = await measure()
  const own = first.name.startsWith('tensorflow') ? 'tensorflow' : first.name
  try {
    const other = await openOther('')
    await probe()
    const rate = await measure()
    const rates = (taken: number, left: number, title: string) =>
      `It multiplies at ${Math.round(taken)} GFLOP/s, ${title} at ${Math.round(left)}.`
    if (rate > ownRate) return { ...other, reason: rates(rate, ownRate, first.title) }
    await setBackend(own)
    return { ...first, reason: `${first.reason} ${rates(ownRate, rate, other.title)}` }
  } catch (thrown) {
    await setBackend(own)
    return { ...first, reason: `${first.reason} The GPU is not used: ${toErrorMessage(thrown).message}` }
  }
}
