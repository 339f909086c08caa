import type { ChatMessage } from '#engine/tokenizer/chat-template.ts'
import type { Turn } from './written-task.ts'

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
