import type { Tensor2D } from '@tensorflow/tfjs-core'

/** The inputs [N, C] of a projection and the gradient of its outputs [N, R], for the length of a call. */
export interface Observed {
  readonly projection: ObservedProjection
  readonly inputs: Tensor2D
  readonly gradient: Tensor2D
  /** Set for a projection of an expert of a mixture. */
  readonly expert?: { readonly index: number; readonly of: number }
}

/** The projections of a part. Those from attention's input are one matrix. */
export const observedProjections = ['mixer', 'output', 'gate', 'up', 'down'] as const
export type ObservedProjection = (typeof observedProjections)[number]
