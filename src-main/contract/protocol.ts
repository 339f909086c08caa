import type { MeasureRequest } from './runs/run-request.ts'

/** What the 2SSP reference does in its evaluation, where it is a matter of protocol. */

/** The two prompts of the paper's qualitative answers. */
export const paperPrompts = ['Who is Albert Einstein?', 'The theory of relativity'] as const

/** How they are answered: five beams, no repeated trigram, early stopping, 128 tokens of prompt and answer together. */
export const paperBeams = { beams: 5, noRepeatNgram: 3, earlyStopping: true } as const
export const paperLength = 128

/** Timed passes of an inference measure. */
export const referenceRepeats = 10

/** The measure of the paper's qualitative answers, on a model that reads at most `contextLength` tokens. */
export function paperAnswers(contextLength: number): Extract<MeasureRequest, { kind: 'answers' }> {
  return { kind: 'answers', prompts: [...paperPrompts], maxLength: Math.min(paperLength, contextLength) }
}
