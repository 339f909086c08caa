import { type BeginChoice, type BeginFigures, lowersClearly, type UsedBegin } from '#contract/data/begin-token.ts'
import { EspalierError } from '#contract/errors.ts'
import { beginLabel } from '#contract/runs/step-names.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { readText } from '#engine/checkpoint/regular-file.ts'
import { locateBundled } from '#engine/data/bundled.ts'
import { cutWindows, type Windows } from '#engine/data/windows.ts'
import { requireFinite } from '#engine/model/finite.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import type { StepKind, StepRequest } from '#engine/steps/step-name.ts'
import { type Tokenizer, withoutTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { readLosses } from './perplexity.ts'

/** The text that `auto` decides by: enough of its first characters for a few windows. */
const text = 'prose'
const characters = 16_384
const fewWindows = 4
const longestWindow = 256

/** The name of the measurement in progress messages. */
export const beginPhase = 'Measuring the begin token'
/** The windows that `auto` runs, and the tokens of each, of a model with this context. */
export const beginWork = (contextLength: number) => ({ windows: 2 * fewWindows, tokens: Math.min(longestWindow, contextLength) })

/** How windows begin: with the token `id`, or with none. */
export interface Begin {
  readonly id: number | undefined
  readonly used: UsedBegin
}

/** A model before any weight is read. */
interface Beginner {
  readonly spec: Pick<DecoderSpec, 'vocabulary' | 'contextLength'>
  readonly tokenizer: Tokenizer | undefined
}

/** Returns the id of the token that begins texts, if the tokenizer has one, and its text. */
export function beginTokenOf({ spec, tokenizer }: Beginner): { id: number; text: string } | undefined {
  const id = tokenizer?.beginId
  if (!tokenizer || id === undefined || id >= spec.vocabulary) return undefined
  return { id, text: tokenizer.decode([id]) }
}

/** Returns the token that begins texts, and its text. Throws if the tokenizer has none. */
export function requireBeginToken(model: Beginner): { id: number; text: string } {
  const token = beginTokenOf(model)
  if (token) return token
  if (!model.tokenizer) throw new EspalierError('invalid', withoutTokenizer('begin windows with a begin token'))
  throw new EspalierError('usage', "This model's tokenizer has no begin token. Choose auto or reference instead of always.")
}

/** Decides how windows begin. `measure` is called only if the decision needs figures. */
export async function decideBegin(
  asked: BeginChoice,
  model: Beginner,
  measure: (windows: Windows, id: number) => Promise<BeginFigures>,
): Promise<Begin> {
  if (asked === 'always') {
    const { id, text: token } = requireBeginToken(model)
    return { id, used: { asked, begins: true, token } }
  }
  const token = beginTokenOf(model)
  const plain = { id: undefined, used: { asked, begins: false, token: token?.text ?? null } }
  if (asked === 'reference' || !token) return plain
  const windows = await decidingWindows(model)
  if (windows.length === 0) return plain
  const figures = await measure(windows, token.id)
  const begins = lowersClearly(figures)
  return { id: begins ? token.id : undefined, used: { asked, begins, token: token.text, figures } }
}

/** The windows that decide, without a begin token and one token short. A tokenizer that barely knows the text gives none. */
async function decidingWindows({ spec, tokenizer }: Beginner): Promise<Windows> {
  const ids = tokenizer?.encode((await readText(locateBundled(text))).slice(0, characters)) ?? []
  const length = Math.min(longestWindow, spec.contextLength) - 1
  return length < 3 ? [] : cutWindows(ids, length, fewWindows)
}

const beginStep: StepKind = { version: 1, anywhere: true }

/** The step whose result is what `measureBegin` returns for the dense model. */
export const beginRequest = (windows: Windows, id: number): StepRequest => ({
  kind: beginStep,
  label: beginLabel,
  on: { windows, id },
})

/** Measures the figures of a view. `progress` counts submodules over both. */
export function measureBegin(
  view: ModelView,
  windows: Windows,
  id: number,
  report: { progress?(done: number, total: number): void; signal?: AbortSignal } = {},
): Promise<BeginFigures> {
  return compareBegin(windows, id, async (from, skipped) => {
    let [sum, count] = [0, 0]
    const progress = (done: number, total: number) => report.progress?.(skipped * total + done, 2 * total)
    await readLosses(view, from, { ...report, progress }, (losses) => {
      for (const loss of losses.subarray(skipped)) sum += loss
      count += losses.length - skipped
    })
    return sum / count
  })
}

/**
 * Compares the perplexity of the same tokens, without and with a begin token: those of each window from the second one on. `meanLoss` gets
 * windows and how many of their first predicted tokens to leave out: 0 for the first call, 1 for the second.
 */
export async function compareBegin(
  windows: Windows,
  id: number,
  meanLoss: (windows: Windows, skipped: 0 | 1) => Promise<number>,
): Promise<BeginFigures> {
  const begun = windows.map((window) => Int32Array.of(id, ...window))
  const [without, begins] = [Math.exp(await meanLoss(windows, 0)), Math.exp(await meanLoss(begun, 1))]
  requireFinite([without, begins], 'The perplexity that decides on the begin token')
  return { without, with: begins, windows: windows.length, sequenceLength: begun[0]?.length ?? 0 }
}
