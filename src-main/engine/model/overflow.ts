import type { Tensor } from '@tensorflow/tfjs-core'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { countNonFinite } from '#engine/checkpoint/dtypes.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { PartActivations } from './decoder.ts'
import { overflowAdvice } from './finite.ts'
import { runWindows } from './forward.ts'
import type { ModelView } from './views/view.ts'
import { blockOf, isAttention, type Part, partNames } from './weights/weights.ts'

/** How many windows run again to find the place. */
const looked = 4

type Stage = Exclude<keyof PartActivations, 'experts' | 'more'>

/** Adds to an error about lost numbers the block and the tensor where they were lost. Returns any other error unchanged. */
export async function locateOverflow(thrown: unknown, view: ModelView, windows: Windows): Promise<unknown> {
  const { message, details } = toErrorMessage(thrown)
  if (details?.notFinite !== true || windows.length === 0) return thrown
  const found = await findOverflow(view, windows.slice(0, looked))
  if (!found) return thrown
  const { name, largest } = await largestTensor(view, found.part, found.stage)
  const place = `It began in block ${blockOf(found.part)}, with ${name}, whose largest entry is ${largest.toPrecision(3)}.`
  return new EspalierError('invalid', message.replace(overflowAdvice, `${place} ${overflowAdvice}`), details)
}

/** The first part of a pass, and its stage, that produces a value that is not finite. */
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

/** The tensor with the largest entry among those that produced the value. */
async function largestTensor({ model, spec }: ModelView, part: Part, stage: Stage): Promise<{ name: string; largest: number }> {
  const last = isAttention(part) ? 'output' : 'down'
  const keys = Object.keys(partNames(spec, part))
  const behind = keys.filter((key) => key === last || key.endsWith('.down'))
  const of = { input: ['norm'], inner: keys.filter((key) => key !== last && key !== 'shortcut' && key !== 'norm'), output: behind }[stage]
  const names = of.flatMap((key) => partNames(spec, part)[key]?.weight ?? [])
  let most = { name: 'the stream that it reads', largest: 0 }
  for (const name of names) {
    const largest = largestOf(await model.checkpoint.readFloat32(name))
    if (largest > most.largest) most = { name, largest }
  }
  return most
}

function largestOf(values: Float32Array): number {
  let largest = 0
  for (const value of values) if (Math.abs(value) > largest) largest = Math.abs(value)
  return largest
}
