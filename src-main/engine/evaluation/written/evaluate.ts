import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { MeasureName } from '#contract/runs/measures.ts'
import { complete } from '#engine/evaluation/generation/answer.ts'
import { share, shareMeasure } from '#engine/evaluation/tasks/accuracy.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import type { ChatMessage } from '#engine/tokenizer/chat-template.ts'
import { encodeText, type Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import type { AskedQuestion } from './questions.ts'
import type { Turn, WrittenTask } from './written-task.ts'

/** Makes a prompt without a chat template. A space precedes each example's answer, and an empty line separates examples. */
export function plainPrompt(turns: readonly Turn[]): string {
  return turns.map(({ asked, answer }) => (answer === undefined ? asked : `${asked} ${answer}`)).join('\n\n')
}

/** Makes a prompt for a chat template. Each example is a turn of the conversation. */
export function chatPrompt(turns: readonly Turn[]): ChatMessage[] {
  return turns.flatMap(({ asked, answer }) => [
    { role: 'user', content: asked },
    ...(answer === undefined ? [] : [{ role: 'assistant', content: answer }]),
  ])
}

interface Writing {
  readonly task: WrittenTask
  /** Whether prompts go through the chat template. */
  readonly chat: boolean
  readonly signal: AbortSignal
  readonly report: (done: number) => void
}

/** How many answers are kept for the user to read. */
const keptAnswers = 5

/** Generates the model's greedy answers to questions. Prompts that leave no room for an answer are cut on the left. */
export async function writeAnswers(
  view: ModelView,
  tokenizer: Tokenizer,
  questions: readonly AskedQuestion[],
  { task, chat, signal, report }: Writing,
): Promise<string[]> {
  const { contextLength } = view.spec
  requireRoom(task, contextLength)
  const texts: string[] = []
  for (const { turns } of questions) {
    const prompt = chat ? chatText(tokenizer, turns) : plainPrompt(turns)
    const ids = encodeText(tokenizer, prompt).slice(task.tokens - contextLength)
    texts.push(await complete(view, tokenizer, ids, { tokens: task.tokens, stops: task.stops, signal }))
    report(texts.length)
  }
  return texts
}

/** Judges the answers to a task. Returns the share that each of its rules accepts, and the first few answers. */
export function judgeAnswers(dataset: string, questions: readonly AskedQuestion[], texts: readonly string[]) {
  const judged = questions.map(({ judge }, index) => judge(at(texts, index)))
  const rules = Object.keys(judged[0] ?? {}) as MeasureName[]
  const measures = rules.map((rule) => {
    const hits = judged.flatMap((one) => one[rule] ?? [])
    return { ...shareMeasure(rule, dataset, share(hits)), hits: hits.map(Number).join('') }
  })
  const answers = questions.slice(0, keptAnswers).map(({ turns }, index) => ({ prompt: turns.at(-1)?.asked ?? '', text: at(texts, index) }))
  return { measures, answers }
}

/** Throws `invalid` if answers alone fill the model's context, so that no prompt fits. */
export function requireRoom({ title, tokens }: WrittenTask, contextLength: number): void {
  if (contextLength > tokens) return
  throw new EspalierError(
    'invalid',
    `${title} has answers of up to ${tokens} tokens, but the model's context is ${contextLength} tokens, prompt included. Leave out this task for this model.`,
  )
}

function chatText(tokenizer: Tokenizer, turns: AskedQuestion['turns']): string {
  const text = tokenizer.chat(chatPrompt(turns))
  if (text !== undefined) return text
  throw new EspalierError('invalid', 'This model has no chat template. Ask the questions as plain text.')
}
