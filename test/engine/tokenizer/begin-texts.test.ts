import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { beginTokenOf } from '#engine/evaluation/begin-token.ts'
import { beginning, encodeQuestion } from '#engine/evaluation/tasks/encode.ts'
import { encodeText, openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { makeByteLevel, writeTokenizer } from './make-tokenizer.ts'

const place = scratchFolder('begin-texts')

const turns = (open: string, close: string) =>
  `{% for m in messages %}${open}{{ m.role }}\n{{ m.content }}${close}\n{% endfor %}{% if add_generation_prompt %}${open}assistant\n{% endif %}`

/** Byte-level tokenizers whose files say how texts begin as those of the families do. Token 257 is the begin token, 258 opens a turn. */
const families = {
  gemma: {
    token: '<bos>',
    opens: '<start_of_turn>',
    settings: { bos_token: '<bos>', add_bos_token: true, chat_template: `{{ bos_token }}${turns('<start_of_turn>', '<end_of_turn>')}` },
    processed: true,
  },
  llama3: {
    token: '<|begin_of_text|>',
    opens: '<|start_header_id|>',
    settings: { bos_token: '<|begin_of_text|>', chat_template: `{{- bos_token }}${turns('<|start_header_id|>', '<|eot_id|>')}` },
    processed: true,
  },
  qwen: {
    token: '<|endoftext|>',
    opens: '<|im_start|>',
    settings: { bos_token: null, add_bos_token: false, chat_template: turns('<|im_start|>', '<|im_end|>') },
    processed: false,
  },
}

async function open(name: keyof typeof families) {
  const { token, opens, settings, processed } = families[name]
  const special = [token, opens].map((content, i) => ({ id: 257 + i, content, special: true }))
  const single = [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }]
  const special_tokens = { [token]: { id: token, ids: [257], tokens: [token] } }
  const base = makeByteLevel([]) as { added_tokens: object[] }
  return openTokenizer(
    await writeTokenizer(join(place, name), {
      'tokenizer.json': {
        ...base,
        added_tokens: [...base.added_tokens, ...special],
        post_processor: processed ? { type: 'TemplateProcessing', single, pair: single, special_tokens } : null,
      },
      'tokenizer_config.json': settings,
      'config.json': { bos_token_id: 257 },
    }),
  )
}

describe.each(Object.entries(families))('a tokenizer like that of %s', (name, { opens, processed }) => {
  const first = processed ? [257] : []

  it('begins texts as the family does, and never twice', async () => {
    const tokenizer = await open(name as keyof typeof families)
    expect(tokenizer.prefixId).toBe(first[0])
    expect(encodeText(tokenizer, 'Hi')).toEqual([...first, ...tokenizer.encode('Hi')])
    expect(encodeText(tokenizer, `${families[name as keyof typeof families].token}Hi`)).toEqual([257, ...tokenizer.encode('Hi')])
    expect(encodeText(tokenizer, '')).toEqual([])
  })

  it('begins a chat as its template does', async () => {
    const tokenizer = await open(name as keyof typeof families)
    const chat = tokenizer.chat([{ role: 'user', content: 'Hi' }], { addGenerationPrompt: true }) as string
    const ids = tokenizer.encode(chat)
    expect(ids.slice(0, first.length + 1)).toEqual([...first, 258])
    expect(ids.filter((id) => id === 257)).toHaveLength(first.length)
    expect(chat).toContain(`${opens}assistant`)
  })

  it('begins the questions of tasks as the harness does: with the token for Gemma alone', async () => {
    const tokenizer = await open(name as keyof typeof families)
    const question = { requests: [{ context: 'Q:', continuations: [' yes'] }], gold: 0 }
    const own = encodeQuestion(name === 'gemma' ? beginning(tokenizer) : tokenizer, question, 100)
    expect([...(own.requests[0]?.prefix ?? [])]).toEqual([...(name === 'gemma' ? [257] : []), ...tokenizer.encode('Q:')])
  })

  it('has a token that windows can begin with', async () => {
    const tokenizer = await open(name as keyof typeof families)
    expect(beginTokenOf({ spec: { vocabulary: 300, contextLength: 8 }, tokenizer })).toEqual({
      id: 257,
      text: families[name as keyof typeof families].token,
    })
  })
})
