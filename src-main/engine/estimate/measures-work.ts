import { promptsUpTo, shortestTurnSeconds, usualRounds, writtenTokens } from '#contract/exports/file-bench.ts'
import { paperBeams, withinContext } from '#contract/protocol.ts'
import type { MeasureRequest } from '#contract/runs/run-request.ts'
import type { PhaseWork } from '#contract/runs/time/estimate.ts'
import { referenceInference } from '#engine/evaluation/inference.ts'
import { lengthsUpTo, needleTexts } from '#engine/evaluation/long-context.ts'
import { addPasses } from '#engine/pruning/search/passes.ts'
import { fewRows } from '#engine/tensor/products.ts'
import type { PhaseCounts } from './phase-counts.ts'
import { countQuestions } from './question-counts.ts'

/** About how many tokens the answer to a long-context question has. It states a number hidden in the text. */
const answerTokens = 7

/** The phases of one measure, with their work. */
export async function measureWork(counts: PhaseCounts, measure: MeasureRequest): Promise<PhaseWork[]> {
  if (measure.kind === 'perplexity') {
    const { windows, tokens } = await counts.count(measure.data)
    const phase = { phase: `Perplexity on ${measure.name}`, passes: counts.wholePasses(windows) }
    return [counts.readingOf(windows * tokens), counts.timed(phase, 'perplexity', tokens)]
  }
  if (measure.kind === 'inference') return [counts.request.weights ? fileTimesWork(counts, measure) : inferenceWork(counts, measure)]
  if (measure.kind === 'repetition') {
    const { windows, tokens } = await counts.count(measure.data)
    const phase = counts.timed({ phase: 'Continuing texts', passes: counts.wholePasses(windows) }, 'repetition', tokens)
    return [counts.decoding(phase, (windows * measure.tokens) / fewRows, fewRows)]
  }
  if (measure.kind === 'long context') return longContextWork(counts, measure)
  if (measure.kind === 'answers') {
    const phase = { phase: 'Answering prompts', passes: { attention: 0, mlp: 0, head: 0 } }
    return [counts.decoding(counts.timed(phase, 'answers', 1), measure.prompts.length * measure.maxLength, paperBeams.beams)]
  }
  return (await Promise.all(measure.tasks.map((task) => taskWork(counts, task, measure)))).flat()
}

async function longContextWork(
  counts: PhaseCounts,
  { data, name }: Extract<MeasureRequest, { kind: 'long context' }>,
): Promise<PhaseWork[]> {
  const { windows, tokens } = await counts.count(withinContext(data, counts.model.spec.contextLength))
  const phase = { phase: `Perplexity by position on ${name}`, passes: counts.wholePasses(windows) }
  const hidden = lengthsUpTo(tokens).map((length) => {
    const reading = { phase: `Numbers hidden in ${length} tokens`, passes: { ...counts.wholePasses(needleTexts), head: 0 } }
    return counts.decoding(counts.timed(reading, 'long context', length), needleTexts * answerTokens, 1)
  })
  return [counts.readingOf(windows * tokens), counts.timed(phase, 'perplexity', tokens), ...hidden]
}

/** The dense and the pruned model are timed in turns, the same number of turns each. */
function inferenceWork(counts: PhaseCounts, { sequenceLength, repeats }: Extract<MeasureRequest, { kind: 'inference' }>): PhaseWork {
  const rounds = Math.min(5, repeats)
  const passes = Math.min(repeats, referenceInference.warmups) + repeats + rounds
  const models = counts.left < 1 ? 2 : 1
  const all = addPasses(counts.wholePasses(passes), ...(models === 2 ? [counts.wholePasses(passes, 1)] : []))
  const timed = counts.timed({ phase: 'Inference time', passes: all, rowsPerCall: 1 }, 'inference', sequenceLength)
  return counts.decoding(timed, models * rounds * Math.min(referenceInference.decoded, sequenceLength - 1), 1)
}

/** Times two files in llama.cpp, with the longest prompt that fits the context. */
function fileTimesWork(counts: PhaseCounts, { sequenceLength, repeats }: Extract<MeasureRequest, { kind: 'inference' }>): PhaseWork {
  const rounds = Math.min(repeats, usualRounds)
  const longest = promptsUpTo(sequenceLength).findLast((tokens) => tokens <= counts.model.spec.contextLength) ?? sequenceLength
  const passes = { ...addPasses(counts.wholePasses(rounds), counts.wholePasses(rounds, 1)), head: 0 }
  const timed = counts.timed({ phase: 'Inference time', passes, rowsPerCall: 1 }, 'inference', longest)
  return { ...counts.decoding(timed, 2 * rounds * writtenTokens, 1), seconds: 2 * rounds * shortestTurnSeconds }
}

async function taskWork(counts: PhaseCounts, task: string, measure: Extract<MeasureRequest, { kind: 'tasks' }>): Promise<PhaseWork[]> {
  const found = await countQuestions(task, measure)
  if (!found) return []
  const { title, questions, tokens, written } = found
  const phase = counts.timed({ phase: title, passes: counts.wholePasses(questions) }, 'tasks', tokens)
  return [written > 0 ? counts.decoding(phase, questions * written, 1) : phase]
}
