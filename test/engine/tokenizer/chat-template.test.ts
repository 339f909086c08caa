import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type ChatMessage, ChatTemplate } from '#engine/tokenizer/chat-template.ts'

/**
 * Our own templates, built from the constructs of today's families, and the text that jinja2 in transformers renders from them; null if it
 * refuses.
 */
const recorded = JSON.parse(readFileSync(join(import.meta.dirname, '../../fixtures/chat-templates.json'), 'utf8')) as {
  templates: Record<string, string>
  conversations: Record<string, ChatMessage[]>
  rendered: { template: string; conversation: string; generation: boolean; expected: string | null }[]
}

test.each(recorded.rendered)(
  '$template, $conversation, generation $generation: as jinja2',
  ({ template, conversation, generation, expected }) => {
    const source = new ChatTemplate(recorded.templates[template] as string, { beginToken: '<s>', endToken: '</s>' })
    const render = () => source.render(recorded.conversations[conversation] as ChatMessage[], { addGenerationPrompt: generation })
    if (expected === null) expect(render).toThrow('refuses these messages: Roles must take turns.')
    else expect(render()).toBe(expected)
  },
)

test('a template may ask for the date of today, as those of Llama 3.2, SmolLM3 and Granite do', () => {
  const template = new ChatTemplate('{%- if strftime_now is defined %}{{ strftime_now("%d %B %Y") }}{% endif -%}', {})
  const now = new Date()
  const month = now.toLocaleString('en-US', { month: 'long' })
  expect(template.render([])).toBe(`${String(now.getDate()).padStart(2, '0')} ${month} ${now.getFullYear()}`)
})
