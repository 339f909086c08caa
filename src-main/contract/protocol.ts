import type { DataRequest } from './data/data-request.ts'
import type { MeasureRequest } from './runs/run-request.ts'

// Evaluation settings of the 2SSP reference, and the default settings of our own measures (repetition and long context).

/** The two prompts of the paper's qualitative comparison. */
export const paperPrompts = ['Who is Albert Einstein?', 'The theory of relativity'] as const

/** Beginnings of code, for models of code: prose says little about them. */
export const codePrompts = [
  'def is_prime(n: int) -> bool:\n    """Return whether n is a prime number."""\n',
  '// Returns the longest word of a sentence.\nfunction longestWord(sentence) {\n',
  '-- The three customers with the most orders in 2024\nSELECT',
] as const

/** How the model answers the paper’s prompts: five beams, no repeated trigram, early stopping, and 128 tokens for prompt and answer together. */
export const paperBeams = { beams: 5, noRepeatNgram: 3, earlyStopping: true } as const
export const paperLength = 128

/** Number of timed passes of an inference measure. */
export const referenceRepeats = 10

/** Returns the measure for the paper's qualitative answers, for a model with this context length. */
export function paperAnswers(contextLength: number): Extract<MeasureRequest, { kind: 'answers' }> {
  return { kind: 'answers', prompts: [...paperPrompts], maxLength: Math.min(paperLength, contextLength) }
}

/**
 * Repetition: number of answers, tokens of each prompt, and tokens of each answer. A paired test sees a difference of 10 points in no fewer
 * than 60 answers. A loop of 32 tokens fits in three times.
 */
const [repetitionAnswers, repetitionPrompt, repetitionTokens] = [64, 32, 96]

/** A text, or one part of it. */
type Text = Pick<DataRequest, 'source' | 'split'>
const textOf = ({ source, split }: Text): Text => ({ source, ...(split ? { split } : {}) })

/** Returns the measure of repetition on a text, for a model with this context length. */
export function usualRepetition(text: Text, name: string, contextLength: number): Extract<MeasureRequest, { kind: 'repetition' }> {
  const sequenceLength = Math.min(repetitionPrompt, Math.floor(contextLength / 4))
  const tokens = Math.min(repetitionTokens, contextLength - sequenceLength)
  return { kind: 'repetition', data: { ...textOf(text), sequenceLength, windows: repetitionAnswers }, name, tokens }
}

/** Long context: tokens per window, and number of windows. */
const [longWindow, longWindows] = [8192, 4]

/** Returns the measure of long context on a text. */
export function usualLongContext(text: Text, name: string, sequenceLength = longWindow): Extract<MeasureRequest, { kind: 'long context' }> {
  return { kind: 'long context', data: { ...textOf(text), sequenceLength, windows: longWindows }, name }
}

/** Returns the same data in windows that are no longer than the context length. */
export function withinContext(data: DataRequest, contextLength: number): DataRequest {
  return { ...data, sequenceLength: Math.min(data.sequenceLength, contextLength) }
}
