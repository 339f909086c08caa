import type { ChatMessage } from '#engine/tokenizer/chat-template.ts'
import type { Turn } from './written-task.ts'

/** A prompt without a chat template: each example's answer after a space, and an empty line between examples. */
export function plainPrompt(turns: readonly Turn[]): string {
  return turns.map(({ asked, answer }) => (answer === undefined ? asked : `${asked} ${answer}`)).join('\n\n')
}

/** A prompt for a chat template, where each example is a turn of the conversation. */
export function chatPrompt(turns: readonly Turn[]): ChatMessage[] {
  return turns.flatMap(({ asked, answer }) => [
    { role: 'user', content: asked },
    ...(answer === undefined ? [] : [{ role: 'assistant', content: answer }]),
  ])
}
