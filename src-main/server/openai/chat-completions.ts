import { type Asked, ask, finishReason, type Kind, usageOf } from './kinds.ts'
import { chatLogprobs } from './logprobs.ts'
import type { ChatBody } from './requests.ts'

/** The default limit. There must be one, because a pruned model may never end its answer. */
const chatTokens = 1024

/** The workbench's request for `/v1/chat/completions`. Chat templates know the role `developer` by its older name, `system`. */
export function askChat(body: ChatBody): Asked {
  const messages = body.messages.map(({ role, content }) => ({
    role: role === 'developer' ? 'system' : role,
    content: typeof content === 'string' ? content : content.map(({ text }) => text).join(''),
  }))
  return ask(body, [{ text: '', messages }], {
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? chatTokens,
    logprobs: body.logprobs ? (body.top_logprobs ?? 0) : null,
    echoes: false,
  })
}

/** The form of answers of `/v1/chat/completions`. */
export const chatKind: Kind = {
  prefix: 'chatcmpl',
  streamed: 'chat.completion.chunk',
  whole: (head, { logprobs, choices }, answers) => ({
    ...head,
    object: 'chat.completion',
    choices: answers.map((answer, index) => ({
      index,
      message: { role: 'assistant', content: answer.text, refusal: null },
      logprobs: logprobs === null ? null : chatLogprobs(answer.tokens, logprobs),
      finish_reason: finishReason(answer),
    })),
    usage: usageOf(answers, choices),
  }),
  opening: (index) => ({ index, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null }),
  piece: ({ logprobs }, { index, text, tokens }) => ({
    index,
    delta: { content: text },
    logprobs: logprobs === null ? null : chatLogprobs(tokens, logprobs),
    finish_reason: null,
  }),
  closing: (index, reason) => ({ index, delta: {}, logprobs: null, finish_reason: reason }),
}
