import { at } from '#contract/at.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { logProbabilities, repeatedNgramEnds, topIndices } from './sampling.ts'

interface BeamSettings {
  readonly beams: number
  readonly noRepeatNgram: number
  readonly earlyStopping: boolean
  /** Tokens of prompt and answer together. */
  readonly maxLength: number
  readonly endIds: readonly number[]
}

interface Beam {
  readonly ids: number[]
  /** Sum of log-probabilities of the generated tokens. */
  readonly sum: number
}

interface BeamAnswer {
  /** Prompt and answer; the end token is included when the search reached it before `maxLength`. */
  readonly ids: number[]
  /** Mean log-probability of a generated token. */
  readonly score: number
}

/** The best finished answers, at most one per beam. Scores are means over the generated tokens (length penalty 1). */
class Finished {
  readonly #limit: number
  readonly #answers: BeamAnswer[] = []

  constructor(limit: number) {
    this.#limit = limit
  }

  add(ids: number[], sum: number, generated: number): void {
    this.#answers.push({ ids, score: sum / generated })
    if (this.#answers.length > this.#limit) this.#answers.splice(this.#answers.indexOf(this.#worst()), 1)
  }

  #worst(): BeamAnswer {
    return this.#answers.reduce((worst, answer) => (answer.score < worst.score ? answer : worst))
  }

  /** Whether no running beam can still beat the finished answers. */
  isDone(bestSum: number, generated: number, earlyStopping: boolean): boolean {
    if (this.#answers.length < this.#limit) return false
    return earlyStopping || this.#worst().score >= bestSum / generated
  }

  best(): BeamAnswer {
    return this.#answers.reduce((best, answer) => (answer.score >= best.score ? answer : best))
  }
}

/**
 * Beam search as the 2SSP reference's qualitative evaluation runs it (transformers 4.47: no sampling, length penalty 1, repeated n-grams
 * forbidden, end tokens only from the first `beams` ranks). Keys and values are cached per block, so pruned models give the same answers
 * with and without the cache.
 */
export async function beamSearch(
  view: ModelView,
  prompt: readonly number[],
  settings: BeamSettings,
  report: { signal?: AbortSignal; progress?(generated: number): void } = {},
): Promise<BeamAnswer> {
  const { beams: count, endIds } = settings
  const session = new DecodingSession(view)
  const finished = new Finished(count)
  let beams: Beam[] = [{ ids: [...prompt], sum: 0 }]
  try {
    let logits = await session.feed(Int32Array.from(prompt), 1, report.signal)
    while ((beams[0] as Beam).ids.length < settings.maxLength) {
      const generated = (beams[0] as Beam).ids.length - prompt.length + 1
      const ranked = rankNext(beams, logits, Math.max(2, 1 + endIds.length) * count, settings.noRepeatNgram)
      const next: { beam: number; id: number; sum: number }[] = []
      for (const [rank, candidate] of ranked.entries()) {
        if (!endIds.includes(candidate.id)) next.push(candidate)
        else if (rank < count) finished.add([...(beams[candidate.beam] as Beam).ids, candidate.id], candidate.sum, generated)
        if (next.length === count) break
      }
      if (next.length === 0) break
      beams = next.map(({ beam, id, sum }) => ({ ids: [...(beams[beam] as Beam).ids, id], sum }))
      if (finished.isDone(at(ranked, 0).sum, generated, settings.earlyStopping)) return trim(finished.best(), settings)
      session.select(next.map(({ beam }) => beam))
      report.progress?.(generated)
      if ((beams[0] as Beam).ids.length < settings.maxLength)
        logits = await session.feed(
          Int32Array.from(next, ({ id }) => id),
          next.length,
          report.signal,
        )
    }
    for (const { ids, sum } of beams) finished.add(ids, sum, Math.max(1, ids.length - prompt.length))
    return trim(finished.best(), settings)
  } finally {
    session.dispose()
  }
}

/** The `count` likeliest continuations over all beams, likeliest first. */
function rankNext(beams: readonly Beam[], logits: readonly Float32Array[], count: number, noRepeatNgram: number) {
  const candidates = beams.flatMap((beam, index) => {
    const scores = logProbabilities(logits[index] as Float32Array)
    for (const id of repeatedNgramEnds(beam.ids, noRepeatNgram)) scores[id] = Number.NEGATIVE_INFINITY
    return topIndices(scores, count).map((id) => ({ beam: index, id, sum: beam.sum + at(scores, id) }))
  })
  return candidates.sort((a, b) => b.sum - a.sum || a.beam - b.beam || a.id - b.id).slice(0, count)
}

function trim(answer: BeamAnswer, { maxLength }: BeamSettings): BeamAnswer {
  return { ...answer, ids: answer.ids.slice(0, maxLength) }
}
