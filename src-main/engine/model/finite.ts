import { EspalierError } from '#contract/errors.ts'

/** What to do about a model whose numbers are lost on the way. */
export const overflowAdvice = 'Its weights are damaged or its training diverged: get the model again.'

/** Throws when one of the values is no number, or endless. `what` begins the sentence. */
export function requireFinite(values: ArrayLike<number>, what: string): void {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) throw notFinite(what)
}

/** Throws when something that will be written down holds a number that is none, which JSON would make null. */
export function requireNumbers(value: unknown, what: string): void {
  if (typeof value === 'number') {
    if (Number.isNaN(value)) throw notFinite(what)
  } else if (typeof value === 'object' && value !== null) for (const inner of Object.values(value)) requireNumbers(inner, what)
}

function notFinite(what: string): EspalierError {
  return new EspalierError('invalid', `${what} came out as no number. ${overflowAdvice}`, { notFinite: true })
}
