import type { Tensor } from '@tensorflow/tfjs-core'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { countNonFinite } from '#engine/checkpoint/dtypes.ts'
import type { Windows } from '#engine/data/windows.ts'
import { overflowAdvice } from './finite.ts'
import { runWindows } from './forward.ts'
import type { PartActivations } from './parts/part.ts'
import type { ModelView } from './views/view.ts'
import { blockOf, isAttention, type Part, partNames } from './weights/weights.ts'

/** How many windows are run again to find where numbers were lost. */
const rerunWindows = 4

type Stage = Exclude<keyof PartActivations, 'experts' | 'more'>

/** Adds the block and the tensor where numbers were lost to an error about NaN or infinity. Returns any other error unchanged. */
export async function locateOverflow(thrown: unknown, view: ModelView, windows: Windows): Promise<unknown> {
  const { message, details } = toErrorMessage(thrown)
  if (details?.notFinite !== true || windows.length === 0) return thrown
  const found = await findOverflow(view, windows.slice(0, rerunWindows))
  if (!found) return thrown
  const { name, largest } = await largestTensor(view, found.part, found.stage)
  const place = `It began in block ${blockOf(found.part)}, with ${name}, whose largest entry is ${largest.toPrecision(3)}.`
  return new EspalierError('invalid', message.replace(overflowAdvice, `${place} ${overflowAdvice}`), details)
}

/** Finds the first part of a pass that produces a value that is not finite, and the stage within it. */
async function findOverflow(view: ModelView, windows: Windows): Promise<{ part: Part; stage: Stage } | undefined> {
  let found: { part: Part; stage: Stage } | undefined
  const isLost = (x: Tensor | undefined) => x !== undefined && countNonFinite(x.dataSync() as Float32Array) > 0
  await runWindows(view, windows, {
    observe(_group, part, seen) {
      if (seen.more || (found !== undefined && found.part <= part)) return
      const stages: readonly Stage[] = seen.experts ? ['input', 'output'] : ['input', 'inner', 'output']
      const stage = stages.find((one) => isLost(seen[one]))
      if (stage !== undefined) found = { part, stage }
    },
  })
  return found
}

/** Among the tensors that produced the value, finds the one with the largest entry. */
async function largestTensor({ model, spec }: ModelView, part: Part, stage: Stage): Promise<{ name: string; largest: number }> {
  const last = isAttention(part) ? 'output' : 'down'
  const keys = Object.keys(partNames(spec, part))
  const lastKeys = keys.filter((key) => key === last || key.endsWith('.down'))
  const of = { input: ['norm'], inner: keys.filter((key) => key !== last && key !== 'shortcut' && key !== 'norm'), output: lastKeys }[stage]
  const names = of.flatMap((key) => partNames(spec, part)[key]?.weight ?? [])
  let found = { name: 'the stream that it reads', largest: 0 }
  for (const name of names) {
    const largest = largestOf(await model.checkpoint.readFloat32(name))
    if (largest > found.largest) found = { name, largest }
  }
  return found
}

function largestOf(values: Float32Array): number {
  let largest = 0
  for (const value of values) if (Math.abs(value) > largest) largest = Math.abs(value)
  return largest
}
