import type { NamedAttrMap, NamedTensorInfoMap, TensorInfo } from '@tensorflow/tfjs-core'
import type { GgmlTensors } from '../tensors.ts'

/** A call of an operation of tfjs-core. */
export interface KernelCall {
  readonly inputs: NamedTensorInfoMap
  readonly attrs: NamedAttrMap
  readonly tensors: GgmlTensors
}

/** An operation computed by ggml; undefined if it cannot compute this call, which then goes to the plain kernel. */
export type Kernel = (call: KernelCall) => TensorInfo | TensorInfo[] | undefined

/** Kernels by their names in tfjs-core. */
export type Kernels = Readonly<Record<string, Kernel>>

/** A required input. */
export function inputOf({ inputs }: KernelCall, name: string): TensorInfo {
  const input = inputs[name]
  if (!input) throw new TypeError(`The operation has no input ${name}.`)
  return input
}

/** All inputs, in their order. */
export const inputsOf = ({ inputs }: KernelCall): TensorInfo[] => Object.values(inputs).filter((input) => input !== undefined)

/** Axes counted from the front, ascending. */
export function axesOf(axis: unknown, rank: number): number[] {
  const list = axis === undefined || axis === null ? Array.from({ length: rank }, (_, i) => i) : [axis].flat()
  return (list as number[]).map((one) => (one < 0 ? one + rank : one)).sort((a, b) => a - b)
}
