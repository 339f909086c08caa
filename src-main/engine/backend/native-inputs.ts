import type { Tensor } from '@tensorflow/tfjs-core'

const mlpInputs = ['x', 'source', 'normWeight', 'normBias', 'gate', 'gateBias', 'up', 'upBias', 'down', 'downBias'] as const

/** Inputs of our operations, in the order in which `native/register.cc` declares them. */
const operationInputs = {
  EspalierUnits: [],
  EspalierAttention: ['projected', 'cosine', 'sine'],
  EspalierPlacedAttention: ['projected', 'cosine', 'sine', 'rows', 'slots', 'keys', 'values'],
  EspalierNorm: ['x', 'weight', 'bias'],
  EspalierNormBackward: ['x', 'weight', 'gradient'],
  EspalierNeuronsBackward: ['gate', 'up', 'gradient'],
  EspalierAttentionBackward: ['projected', 'cosine', 'sine', 'gradient'],
  EspalierGate: ['gate', 'up'],
  EspalierExponents: ['logits'],
  EspalierCompareLogits: ['dense', 'own'],
  EspalierDistance: ['a', 'b'],
  EspalierColumns: ['x'],
  EspalierFewRows: ['x', 'weight', 'bias'],
  EspalierNarrow: ['weight'],
  EspalierGroup: ['weight', 'types', 'factors', 'blocks'],
  EspalierFewNarrowRows: ['x', 'weight', 'bias'],
  EspalierDecode: ['x', 'steps', 'numbers', 'lists', 'rows', 'slots', 'tensors', 'halves'],
  EspalierPack: ['weight'],
  EspalierExact: ['weight'],
  EspalierBf16Product: ['x', 'normWeight', 'normBias', 'weight', 'bias', 'add'],
  EspalierBf16Mlp: mlpInputs,
  EspalierKeptBf16Mlp: mlpInputs,
  EspalierSummedBf16Mlp: mlpInputs,
  EspalierBf16MlpBackward: ['gradient', 'source', 'normWeight', 'kept', 'down', 'active', 'other'],
  EspalierBf16Neurons: ['source', 'normWeight', 'normBias', 'gate', 'gateBias', 'up', 'upBias'],
  EspalierBf16Exponents: ['x', 'head', 'bias'],
  EspalierBf16Correlation: ['a', 'b'],
  EspalierBf16Divergence: ['own', 'dense', 'head', 'transposed', 'bias'],
} as const

export type OperationName = keyof typeof operationInputs

/** The inputs of an operation by name: a tensor each, or a list where the operation takes any number of tensors. */
export type OperationInputs<Name extends OperationName> = Readonly<
  Record<(typeof operationInputs)[Name][number], Tensor | readonly Tensor[]>
>

/** Puts inputs into the order in which the operation expects them. */
export function inOrder<Name extends OperationName>(name: Name, inputs: OperationInputs<Name>): Tensor[] {
  const names: readonly (keyof OperationInputs<Name>)[] = operationInputs[name]
  return names.flatMap((input) => inputs[input])
}

/** Names of the integers that describe a step of `decode`, in the order of `native/kernels/decode-words.h`, which explains them. */
export const stepWords = [
  ...(['attends', 'keepsSource', 'firstRow', 'rows', 'inner', 'window', 'tables'] as const),
  ...(['beforeKind', 'beforeWeight', 'beforeBias', 'afterKind', 'afterWeight', 'afterBias'] as const),
  ...(['headKind', 'queryWeight', 'keyWeight'] as const),
  ...(['first', 'firstBias', 'gate', 'gateBias', 'second', 'secondBias'] as const),
] as const

/** Names of the floating-point numbers of a step, in the order of `native/kernels/decode-words.h`. */
export const stepNumbers = ['beforeEpsilon', 'beforeDivisor', 'afterEpsilon', 'afterDivisor', 'headEpsilon', 'scale'] as const

/** The numbers of the kinds of norms. */
export const normKinds = { none: 0, rms: 1, layer: 2 } as const

export type StepWords = Readonly<Record<(typeof stepWords)[number], number>>
export type StepNumbers = Readonly<Record<(typeof stepNumbers)[number], number>>
