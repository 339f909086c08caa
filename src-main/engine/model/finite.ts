import { EspalierError } from '#contract/errors.ts'

/** Tells users what to do about a model whose numbers overflow. */
export const overflowAdvice = 'The model’s weights are damaged or its training diverged. Download the model again.'

/** Throws if a value is NaN or infinite. `what` is the subject of the message. */
export function requireFinite(values: ArrayLike<number>, what: string): void {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) throw notFinite(what)
}

/** Throws if something to be stored contains NaN, at any depth. Infinity is allowed. `what` is the subject of the message. */
export function requireNumbers(value: unknown, what: string): void {
  if (typeof value === 'number') {
    if (Number.isNaN(value)) throw notFinite(what)
  } else if (typeof value === 'object' && value !== null) for (const inner of Object.values(value)) requireNumbers(inner, what)
}

function notFinite(what: string): EspalierError {
  return new EspalierError('invalid', `${what} came out infinite or not a number. ${overflowAdvice}`, { notFinite: true })
}
