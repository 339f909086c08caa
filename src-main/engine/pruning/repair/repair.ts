import { type Tensor2D, tensor2d } from '@tensorflow/tfjs-core'
import type { Plan } from '#contract/plan.ts'
import type { Windows } from '#engine/data/windows.ts'
import type { ModelView } from '#engine/model/view.ts'
import { blockOf, isAttention } from '#engine/model/weights.ts'
import type { MethodRun } from '../method.ts'
import { type Solution, solveWithRidge } from './ridge.ts'
import { type Segment, segmentsOf } from './segments.ts'
import { RepairWalk } from './walk.ts'

export interface RepairedProjection extends Omit<Solution, 'weight'> {
  readonly block: number
  readonly projection: 'output' | 'down'
  readonly weight: { readonly values: Float32Array; readonly shape: readonly [number, number] } | undefined
}

export interface RepairInput {
  readonly view: ModelView
  readonly plan: Plan
  readonly windows: Windows
  readonly kind: 'one-pass' | 'in-order'
  readonly run: MethodRun
}

export async function repairPlan({ view, plan, windows, kind, run }: RepairInput): Promise<RepairedProjection[]> {
  const segments = segmentsOf(view.spec, view.parts, plan)
  const walk = new RepairWalk(view, plan, kind === 'in-order', run.signal)
  const repaired: RepairedProjection[] = []
  try {
    await walk.begin(windows)
    for (const [index, segment] of segments.entries()) {
      run.progress('Repairing', index, segments.length, 'projections')
      const found = await repairSegment(walk, segment)
      if (found) repaired.push(found)
    }
    run.progress('Repairing', segments.length, segments.length, 'projections')
    return repaired
  } finally {
    walk.dispose()
  }
}

async function repairSegment(walk: RepairWalk, segment: Segment): Promise<RepairedProjection | undefined> {
  await walk.enter(segment)
  const found = walk.needsRepair(segment) ? await solve(walk, segment) : undefined
  const weight = found?.weight && tensor2d(found.weight.values, [...found.weight.shape])
  await walk.leave(segment, weight)
  weight?.dispose()
  return found
}

async function solve(walk: RepairWalk, segment: Segment): Promise<RepairedProjection> {
  const { equations, weight: old } = await walk.equations(segment)
  const { weight, ...figures } = solveWithRidge(equations, old)
  equations.fitted.dispose()
  equations.heldOut.dispose()
  old.dispose()
  return {
    block: blockOf(segment.part),
    projection: isAttention(segment.part) ? 'output' : 'down',
    ...figures,
    weight: weight && readOut(weight),
  }
}

function readOut(weight: Tensor2D): { values: Float32Array; shape: readonly [number, number] } {
  const read = { values: weight.dataSync().slice() as Float32Array, shape: weight.shape }
  weight.dispose()
  return read
}
