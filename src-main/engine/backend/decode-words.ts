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
