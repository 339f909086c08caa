import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import { keysAndValues } from '#engine/architectures/count-parameters.ts'
import { cutWindows } from '#engine/data/windows.ts'
import { logProbabilities, topIndices } from '#engine/evaluation/generation/sampling.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import type { StepKind } from '#engine/steps/step-name.ts'
import { fewRows } from '#engine/tensor/products.ts'
import { type Tokenizer, withoutTokenizer } from '#engine/tokenizer/tokenizer.ts'
import type { MethodRun } from '../method.ts'

export const writingText = 'Writing text'

/** How many texts are written side by side. One pass over the weights serves this many. */
export const writtenTogether = fewRows
/** The most tokens of a text. */
const longest = 256

const writtenStep: StepKind = { version: 1 }

export interface Writer {
  /** The dense model. */
  readonly view: ModelView
  readonly tokenizer: Tokenizer | undefined
  readonly seed: number
  readonly run: Pick<MethodRun, 'step' | 'progress' | 'signal'>
}

/** How a text begins. */
interface Opening {
  readonly ids: readonly number[]
  /** How many end tokens the text continues after. */
  readonly ends: number
}

/**
 * Returns windows of text that the dense model writes itself, sampled at temperature 1. Texts start in turn with the token between
 * documents and with its chat template's opening of a user turn, so that the model makes up the question as well. Each group of texts is
 * one step. With `begin`, each window begins with this token.
 */
export async function writeWindows(writer: Writer, windows: number, sequenceLength: number, begin?: number): Promise<Int32Array[]> {
  const { view, tokenizer, seed, run } = writer
  if (!tokenizer) throw new EspalierError('invalid', withoutTokenizer('write text'))
  const openings = openingsOf(tokenizer)
  const together = Math.max(1, Math.min(writtenTogether, Math.floor(view.model.workspaceBytes / 2 / bytesOf(view))))
  const wanted = windows * sequenceLength
  const ids: number[] = []
  for (let group = 0; ids.length < wanted; group++) {
    const opening = at(openings, group % openings.length)
    const on = { seed, group, together, opening: [...opening.ids], endIds: [...tokenizer.endIds] }
    const texts = await run.step({ kind: writtenStep, label: 'text that the dense model wrote', on }, () =>
      writeGroup(writer, opening, tokenizer.endIds, { together, group }, (tokens) =>
        run.progress(writingText, Math.min(wanted, ids.length + tokens), wanted, 'tokens'),
      ),
    )
    ids.push(...texts.flat())
  }
  run.progress(writingText, wanted, wanted, 'tokens')
  return cutWindows(ids, sequenceLength, windows, begin)
}

/** Returns the bytes of the keys and values of one text. */
const bytesOf = ({ spec }: ModelView): number => 4 * 2 * longest * keysAndValues(spec)

/** Most tokenizers have a token of this name between documents. With others, a text starts with their begin token. */
const betweenDocuments = '<|endoftext|>'

function openingsOf(tokenizer: Tokenizer): Opening[] {
  const named = tokenizer.encode(betweenDocuments)
  const first = named.length === 1 ? named[0] : (tokenizer.beginId ?? tokenizer.endIds[0])
  if (first === undefined)
    throw new EspalierError(
      'invalid',
      'This model has no token to begin a text with, so it cannot write its own training text. Choose another text.',
    )
  const mark = '\u{2402}'
  const chat = tokenizer.chats
    ? tokenizer.chat([{ role: 'user', content: mark }], { addGenerationPrompt: false })?.split(mark)[0]
    : undefined
  const plain = { ids: [first], ends: 0 }
  // In a chat, the first end token ends the question.
  return chat ? [plain, { ids: tokenizer.encode(chat), ends: 1 }] : [plain]
}

/** Writes a group of texts and returns them with their openings. Random numbers depend only on the seed and the group. */
async function writeGroup(
  { view, seed, run: { signal } }: Writer,
  opening: Opening,
  endIds: readonly number[],
  { together, group }: { readonly together: number; readonly group: number },
  report: (tokens: number) => void,
): Promise<number[][]> {
  const random = new PythonRandom((seed % 2 ** 31) * 2 ** 20 + group)
  const texts = Array.from({ length: together }, () => ({ ids: [...opening.ids], ends: opening.ends }))
  const session = new DecodingSession(view)
  try {
    const [begun = new Float32Array()] = await session.feed(Int32Array.from(opening.ids), 1, signal)
    session.select(texts.map(() => 0))
    let logits = texts.map(() => begun)
    let open = texts
    for (let length = opening.ids.length; open.length > 0; length++) {
      report(together * length)
      const continued = open.flatMap((text, index) => {
        const id = drawToken(at(logits, index), random.random())
        text.ids.push(id)
        const hasEnded = (endIds.includes(id) && text.ends-- <= 0) || text.ids.length >= opening.ids.length + longest
        return hasEnded ? [] : [index]
      })
      open = continued.map((index) => at(open, index))
      if (open.length === 0) break
      session.select(continued)
      logits = await session.feed(
        Int32Array.from(open, ({ ids }) => at(ids, ids.length - 1)),
        open.length,
        signal,
      )
    }
    return texts.map(({ ids }) => ids)
  } finally {
    session.dispose()
  }
}

/** Draws a token according to its probability. `uniform` is a random number from 0 to 1. */
export function drawToken(logits: Float32Array, uniform: number): number {
  let rest = uniform
  const logs = logProbabilities(logits)
  for (let id = 0; id < logs.length; id++) {
    rest -= Math.exp(at(logs, id))
    if (rest < 0) return id
  }
  return at(topIndices(logits, 1), 0)
}
