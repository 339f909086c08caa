import type { DataRequest } from './data/data-request.ts'
import type { MeasureRequest } from './runs/run-request.ts'

/** Evaluation settings of the 2SSP reference. */

/** The two prompts of the paper's qualitative comparison. */
export const paperPrompts = ['Who is Albert Einstein?', 'The theory of relativity'] as const

/** How they are answered: five beams, no repeated trigram, early stopping, 128 tokens of prompt and answer together. */
export const paperBeams = { beams: 5, noRepeatNgram: 3, earlyStopping: true } as const
export const paperLength = 128

/** Timed passes of an inference measure. */
export const referenceRepeats = 10

/** The measure for the paper's qualitative answers, on a model with context length `contextLength`. */
export function paperAnswers(contextLength: number): Extract<MeasureRequest, { kind: 'answers' }> {
  return { kind: 'answers', prompts: [...paperPrompts], maxLength: Math.min(paperLength, contextLength) }
}

/** How many answers show whether a model loops, the tokens that each continues, and those it adds: a loop of 32 tokens turns three times. */
const [repetitionAnswers, repetitionPrompt, repetitionTokens] = [16, 32, 96]

/** The measure of repetition on a text, for a model with context length `contextLength`. */
export function usualRepetition(source: string, name: string, contextLength: number): Extract<MeasureRequest, { kind: 'repetition' }> {
  const sequenceLength = Math.min(repetitionPrompt, Math.floor(contextLength / 4))
  const tokens = Math.min(repetitionTokens, contextLength - sequenceLength)
  return { kind: 'repetition', data: { source, sequenceLength, windows: repetitionAnswers }, name, tokens }
}

/** Tokens of the longest windows that show how a model uses a long text, and how many of them. */
const [longWindow, longWindows] = [8192, 4]

/** The measure of long context on a text. */
export function usualLongContext(
  source: string,
  name: string,
  sequenceLength = longWindow,
): Extract<MeasureRequest, { kind: 'long context' }> {
  return { kind: 'long context', data: { source, sequenceLength, windows: longWindows }, name }
}

/** The same data in windows that a model with context length `contextLength` was made for. */
export function withinContext(data: DataRequest, contextLength: number): DataRequest {
  return { ...data, sequenceLength: Math.min(data.sequenceLength, contextLength) }
}
