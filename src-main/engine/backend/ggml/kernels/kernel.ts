import type { NamedAttrMap, NamedTensorInfoMap, TensorInfo } from '@tensorflow/tfjs-core'
import type { GgmlTensors } from '../tensors.ts'

/** A call of an operation of tfjs-core. */
export interface KernelCall {
  readonly inputs: NamedTensorInfoMap
  readonly attrs: NamedAttrMap
  readonly tensors: GgmlTensors
}

/** Computes a call with ggml. Returns undefined if ggml cannot, so that the plain kernel computes it in JavaScript. */
export type Kernel = (call: KernelCall) => TensorInfo | TensorInfo[] | undefined

/** Kernels by their names in tfjs-core. */
export type Kernels = Readonly<Record<string, Kernel>>

/** Returns an input of a call. Throws if it is missing. */
export function inputOf({ inputs }: KernelCall, name: string): TensorInfo {
  const input = inputs[name]
  if (!input) throw new TypeError(`The operation has no input ${name}.`)
  return input
}

/** Returns all inputs of a call, in order. */
export const inputsOf = ({ inputs }: KernelCall): TensorInfo[] => Object.values(inputs).filter((input) => input !== undefined)

/** Returns axes in ascending order, with negative ones counted from the front; all axes if none are given. */
export function axesOf(axis: unknown, rank: number): number[] {
  const list = axis === undefined || axis === null ? Array.from({ length: rank }, (_, i) => i) : [axis].flat()
  return (list as number[]).map((one) => (one < 0 ? one + rank : one)).sort((a, b) => a - b)
}
