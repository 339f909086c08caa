/** The package `openai` against the real server, workbench and engine. */
import { execFile } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { cp, readFile, writeFile } from 'node:fs/promises'
import { type IncomingMessage, request, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { promisify } from 'node:util'
import OpenAI, { type APIError, APIUserAbortError } from 'openai'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Input, Output } from '#contract/api.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { makeToken } from '#server/guard/token.ts'
import { type RunningServer, startServer } from '#server/server.ts'
import { eventually } from '../../eventually.ts'
import { referenceModel } from '../../fixtures/reference.ts'
import { processesOf } from '../../jobs/kill-checks.ts'
import { type Opened, openedWorkbench, runEnded } from '../../services/opened.ts'
import { send } from '../running.ts'

const root = join(import.meta.dirname, '../../..')
const token = makeToken()
const prompt = 'Once upon a time, there was a'
let workbench: Opened
let server: RunningServer
let client: OpenAI
let run: string
/** How the server's completions ended, or that they are still running. */
const states: string[] = []
/** Whether answers were held back or let go, in order. */
const held: boolean[] = []

beforeAll(async () => {
  const modelPath = await referenceModel('stories260k')
  await writeFile(
    join(modelPath, 'chat_template.jinja'),
    '{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:',
  )
  workbench = await openedWorkbench({ computeCommand: defaultComputeCommand(), modelPath })
  const asked = { method: 'shortgpt', amount: { sparsity: 0.2 }, options: {}, seed: 0, measures: [], backend: 'auto' as const }
  const calibration = {
    source: join(import.meta.dirname, '../../fixtures/reference/calibration-windows.json'),
    sequenceLength: 256,
    windows: 1,
  }
  run = (await workbench.call('runs.create', { model: workbench.model.id, request: { ...asked, calibration } })).id
  expect((await runEnded(workbench, run)).status).toBe('done')
  server = await startServer({ door: { ...workbench, call: watched }, pages: workbench.folder, host: '127.0.0.1', port: 0, token })
  client = new OpenAI({ baseURL: `${server.address}v1`, apiKey: token, maxRetries: 0 })
}, 120_000)
afterAll(async () => {
  await server.close()
  await workbench[Symbol.asyncDispose]()
})

const watched = (async (name, ...asked) => {
  const answer = workbench.call(name, ...asked)
  if (name === 'playground.hold') held.push((asked[0] as Input<'playground.hold'>).held)
  if (name !== 'playground.complete') return answer
  const index = states.push('under way') - 1
  return answer.then(
    (completion) => {
      const { answers } = completion as Output<'playground.complete'>
      states[index] = answers.some(({ end }) => end === 'stopped') ? 'stopped' : 'whole'
      return completion
    },
    (thrown: unknown) => {
      states[index] = 'left'
      throw thrown
    },
  )
}) as Opened['call']

const refusal = (asked: Promise<unknown>): Promise<APIError> =>
  asked.then(
    () => Promise.reject(new Error('It was not refused.')),
    (error) => error,
  )

test('lists models and runs, and finds one by its id', async () => {
  const found = []
  for await (const model of await client.models.list()) found.push(model)
  expect(found.map(({ id }) => id).sort()).toEqual([workbench.model.id, run].sort())
  expect(await client.models.retrieve(run)).toMatchObject({ id: run, object: 'model', owned_by: 'espalier' })
  expect(await refusal(client.models.retrieve('run-none'))).toMatchObject({
    status: 404,
    type: 'invalid_request_error',
    code: 'model_not_found',
  })
})

test('completes text and token ids the same, for several prompts, whole and streamed', async () => {
  const greedy = { model: run, max_tokens: 12, temperature: 0, seed: 1 } as const
  const whole = await client.completions.create({ ...greedy, prompt: [prompt, 'Lily and Tom'] })
  expect(whole.choices.map(({ index, finish_reason }) => [index, finish_reason])).toEqual([
    [0, 'length'],
    [1, 'length'],
  ])
  expect(whole.usage).toMatchObject({ completion_tokens: 24, total_tokens: 24 + (whole.usage?.prompt_tokens ?? 0) })
  const { answers } = await workbench.call('playground.complete', {
    model: run,
    prompts: [{ text: prompt }],
    settings: { maxTokens: 0 },
    scoresPrompts: true,
  })
  // A text is read with the begin token of this model before it, which no scored text shows.
  const ids = [1, ...(answers[0]?.scored?.map(({ id }) => id) ?? [])]
  expect((await client.completions.create({ ...greedy, prompt: ids })).choices[0]?.text).toBe(whole.choices[0]?.text)
  const texts = ['', '']
  let usage: unknown
  for await (const chunk of await client.completions.create({
    ...greedy,
    prompt: [prompt, 'Lily and Tom'],
    stream: true,
    stream_options: { include_usage: true },
  })) {
    for (const { index, text } of chunk.choices) texts[index] += text
    usage = chunk.usage ?? usage
  }
  expect(texts).toEqual(whole.choices.map(({ text }) => text))
  expect(usage).toEqual(whole.usage)
  expect((await workbench.call('transcripts.query', {})).total).toBe(0)
})

test('echoes a prompt with the log-probabilities that perplexity is made of', async () => {
  const asked = { model: workbench.model.id, prompt, echo: true, max_tokens: 1, temperature: 0, logprobs: 2 }
  const [choice] = (await client.completions.create(asked)).choices
  const { tokens = [], token_logprobs = [], top_logprobs = [], text_offset = [] } = choice?.logprobs ?? {}
  expect(choice?.text).toMatch(new RegExp(`^${prompt}`))
  expect(tokens.join('')).toBe(choice?.text)
  expect(text_offset.at(-1)).toBe(tokens.slice(0, -1).join('').length)
  expect([token_logprobs[0], top_logprobs[0]]).toEqual([null, null])
  // The greedily chosen token is the likeliest.
  expect(token_logprobs.at(-1)).toBe(Math.max(...Object.values(top_logprobs.at(-1) ?? {})))
  // Each prefix, requested alone, gives the same prediction.
  const shorter = await client.completions.create({ ...asked, echo: false, prompt: 'Once upon a time, there was' })
  expect(shorter.choices[0]?.logprobs?.top_logprobs?.[0]).toMatchObject({
    [tokens.at(-2) as string]: expect.closeTo(token_logprobs.at(-2) as number, 4),
  })
})

test('echoes a prompt with its next token also where that ends the text', async () => {
  const asked = { prompt, echo: true, max_tokens: 1, temperature: 0, logprobs: 1 }
  const { answers } = await workbench.call('playground.complete', {
    model: workbench.model.id,
    prompts: [{ text: prompt }],
    settings: { maxTokens: 1, decoding: { kind: 'sampling', temperature: 0 } },
  })
  const path = join(workbench.folder, 'ending')
  await cp(workbench.model.path, path, { recursive: true })
  await writeFile(join(path, 'generation_config.json'), JSON.stringify({ eos_token_id: answers[0]?.tokens[0]?.id }))
  const ending = await workbench.call('models.add', { path, name: 'ending' })
  const [usual] = (await client.completions.create({ ...asked, model: workbench.model.id })).choices
  const [ended] = (await client.completions.create({ ...asked, model: ending.id })).choices
  expect([ended?.finish_reason, ended?.text]).toEqual(['stop', prompt])
  expect(ended?.logprobs?.token_logprobs).toEqual(usual?.logprobs?.token_logprobs)
  await workbench.call('models.remove', { id: ending.id })
})

test('chats by the template of the model, whole and streamed, with log-probabilities', async () => {
  const asked = {
    model: run,
    messages: [
      { role: 'system' as const, content: 'Tell a story.' },
      { role: 'user' as const, content: 'About Tom.' },
    ],
    max_tokens: 8,
    temperature: 0,
    seed: 3,
  }
  const whole = await client.chat.completions.create({ ...asked, logprobs: true, top_logprobs: 3 })
  const [choice] = whole.choices
  expect(choice?.message.role).toBe('assistant')
  expect(choice?.logprobs?.content?.map(({ token: text }) => text).join('')).toBe(choice?.message.content)
  expect(choice?.logprobs?.content?.[0]?.top_logprobs.map(({ logprob }) => logprob)[0]).toBe(choice?.logprobs?.content?.[0]?.logprob)
  const raw = await client.completions.create({
    model: run,
    prompt: 'system: Tell a story.\nuser: About Tom.\nassistant:',
    max_tokens: 8,
    temperature: 0,
  })
  expect(choice?.message.content).toBe(raw.choices[0]?.text)
  let text = ''
  for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) text += chunk.choices[0]?.delta.content ?? ''
  expect(text).toBe(choice?.message.content)
})

test('samples by seed, and gives each of several choices its own', async () => {
  const asked = { model: run, prompt, max_tokens: 10, temperature: 1.5, top_p: 0.95 }
  const [first, other] = (await client.completions.create({ ...asked, seed: 7, n: 2 })).choices
  expect(first?.text).not.toBe(other?.text)
  expect((await client.completions.create({ ...asked, seed: 8 })).choices[0]?.text).toBe(other?.text)
})

test('ends before a stop text, also where it is streamed in pieces', async () => {
  const asked = { model: run, prompt, max_tokens: 30, temperature: 0 }
  const text = (await client.completions.create(asked)).choices[0]?.text ?? ''
  const stop = text.slice(14, 19)
  const [stopped] = (await client.completions.create({ ...asked, stop: [stop, 'zzz'] })).choices
  expect(stopped).toMatchObject({ text: text.slice(0, text.indexOf(stop)), finish_reason: 'stop' })
  let streamed = ''
  for await (const chunk of await client.completions.create({ ...asked, stop, stream: true })) streamed += chunk.choices[0]?.text ?? ''
  expect(streamed).toBe(stopped?.text)
})

test.each([
  ['a wrong token', {}, { status: 401, type: 'authentication_error', code: 'invalid_api_key' }],
  ['an unknown model', { model: 'none' }, { status: 404, code: 'model_not_found' }],
  ['what is not offered', { presence_penalty: 1 }, { status: 400, param: 'presence_penalty' }],
  ['a value out of range', { temperature: 9 }, { status: 400, param: 'temperature' }],
  ['a prompt that is too long', { prompt: 'word '.repeat(3000) }, { status: 400, type: 'invalid_request_error' }],
  ['a token that does not exist', { prompt: [5, 600_000] }, { status: 400, type: 'invalid_request_error' }],
  ['too long an answer', { max_tokens: 100_000 }, { status: 400, param: 'max_tokens' }],
])('refuses %s in the form of OpenAI', async (what, changes, expected) => {
  const own = what === 'a wrong token' ? new OpenAI({ baseURL: `${server.address}v1`, apiKey: makeToken(), maxRetries: 0 }) : client
  for (const stream of [false, true]) {
    const error = await refusal(own.completions.create({ model: run, prompt, max_tokens: 1, stream, ...changes }))
    expect(error).toMatchObject({ ...expected, message: expect.stringMatching(/\.$/) })
  }
})

test('refuses other hosts and origins as the calls do', async () => {
  const headers = { authorization: `Bearer ${token}`, host: 'evil.example' }
  const body = await send(server, { path: '/v1/models', headers })
  expect([body.status, JSON.parse(body.text).error.type]).toEqual([403, 'permission_error'])
  const foreign = { authorization: `Bearer ${token}`, host: `127.0.0.1:${server.port}`, origin: 'http://evil.example' }
  expect((await send(server, { path: '/v1/models', headers: foreign })).status).toBe(403)
})

test('stops when the client leaves, so that the next request is answered', async () => {
  const long = { model: workbench.model.id, prompt, max_tokens: 400, temperature: 1, n: 16 }
  states.length = 0
  const leaving = new AbortController()
  const asked = refusal(client.completions.create(long, { signal: leaving.signal }))
  await eventually(() => states.length === 1, 'the request')
  leaving.abort()
  expect(await asked).toBeInstanceOf(APIUserAbortError)
  const stream = await client.completions.create({ ...long, stream: true })
  let pieces = 0
  for await (const _ of stream) if (++pieces === 3) break
  await client.completions.create({ model: run, prompt, max_tokens: 1 })
  expect(states).toEqual(['stopped', 'stopped', 'whole'])
})

test('the documented script answers', async () => {
  const [, script = ''] = /```js\n(.*?)```/s.exec(await readFile(join(root, 'docs/openai-api.md'), 'utf8')) ?? []
  const env = { ...process.env, OPENAI_BASE_URL: `${server.address}v1`, OPENAI_API_KEY: token }
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], { cwd: root, env })
  const [first = '', , text = ''] = stdout.split('\n')
  expect(first).toContain(run)
  const greedy = { model: run, prompt: 'Once upon a time', max_tokens: 20, temperature: 0 }
  expect(stdout).toContain((await client.completions.create(greedy)).choices[0]?.text)
  expect(text).not.toBe('')
})

test('an overflowing model is an error with its name, whole and streamed, and never an answer', async () => {
  const path = join(workbench.folder, 'overflowing')
  await cp(workbench.model.path, path, { recursive: true })
  await fillTensor(join(path, 'model.safetensors'), 'model.norm.weight', 3e38)
  const { id } = await workbench.call('models.add', { path, name: 'overflowing' })
  for (const more of [{}, { temperature: 0 }, { temperature: 1e-38 }, { stream: true }, { echo: true, logprobs: 1 }]) {
    const error = await refusal(client.completions.create({ model: id, prompt, max_tokens: 2, ...more }))
    expect(error, JSON.stringify(more)).toMatchObject({
      status: 400,
      message: expect.stringMatching(/overflowing after \d+ tokens? came out infinite/),
    })
  }
  const chat = { model: id, messages: [{ role: 'user' as const, content: 'x' }], max_tokens: 2 }
  expect(await refusal(client.chat.completions.create(chat))).toMatchObject({ status: 400 })
  const cold = await client.completions.create({ model: run, prompt, max_tokens: 4, temperature: 1e-38 })
  expect(cold.choices[0]?.text).toBe(
    (await client.completions.create({ model: run, prompt, max_tokens: 4, temperature: 0 })).choices[0]?.text,
  )
  await workbench.call('models.remove', { id })
})

/** Writes one value into every entry of a float32 tensor. */
async function fillTensor(file: string, name: string, value: number): Promise<void> {
  const bytes = await readFile(file)
  const length = Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<string, { dtype: string; data_offsets: [number, number] }>
  const { dtype, data_offsets } = header[name] ?? {}
  if (dtype !== 'F32' || !data_offsets) throw new Error(`${name} is ${dtype}`)
  for (let at = 8 + length + data_offsets[0]; at < 8 + length + data_offsets[1]; at += 4) bytes.writeFloatLE(value, at)
  await writeFile(file, bytes)
}

test('a prompt longer than the context is refused before it is copied, however often it is asked', async () => {
  const ids = Array.from({ length: 1_000_000 }, (_, at) => at % 400)
  const begun = performance.now()
  for (const list of [ids, [ids, ids.slice(0, 100_000)], ids.map(() => -1)]) {
    const body = { model: run, prompt: list, n: 16, max_tokens: 1 } as never
    expect(await refusal(client.completions.create(body))).toMatchObject({
      message: expect.stringMatching(/tokens; .* reads at most|values, and the most is/),
    })
  }
  // It took 10 to 20 s when each choice had a copy that the compute process refused.
  expect((performance.now() - begun) / 1000).toBeLessThan(8)
})

test.each([
  ['strings', { prompt: Array.from({ length: 500_000 }, () => 'a') }],
  ['messages', { messages: Array.from({ length: 500_000 }, () => 1) }],
  ['stop texts', { stop: Array.from({ length: 500_000 }, () => 1) }],
])('half a million %s are refused without checking each', async (_what, body) => {
  const begun = performance.now()
  expect(await refusal(client.completions.create({ model: run, prompt, ...body } as never))).toMatchObject({ status: 413 })
  expect((performance.now() - begun) / 1000).toBeLessThan(3)
})

test('a prompt that is echoed with its probabilities arrives in pieces, and whole if it is not too long', async () => {
  const asked = { model: workbench.model.id, prompt: 'word '.repeat(100), echo: true, max_tokens: 0, logprobs: 3 }
  const [whole] = (await client.completions.create(asked)).choices
  const pieces: { tokens: number; offset: number }[] = []
  const streamed = { text: '', logprobs: [] as (number | null)[] }
  for await (const chunk of await client.completions.create({ ...asked, stream: true })) {
    const [choice] = chunk.choices
    streamed.text += choice?.text ?? ''
    streamed.logprobs.push(...((choice?.logprobs?.token_logprobs ?? []) as (number | null)[]))
    if (choice?.logprobs) pieces.push({ tokens: choice.logprobs.tokens?.length ?? 0, offset: choice.logprobs.text_offset?.[0] ?? 0 })
  }
  expect(Math.max(...pieces.map(({ tokens }) => tokens))).toBeLessThanOrEqual(64)
  expect(pieces.length).toBeGreaterThan(1)
  expect(streamed.text).toBe(whole?.text)
  expect(streamed.logprobs.length).toBe(whole?.logprobs?.token_logprobs?.length)
  for (const [at, value] of streamed.logprobs.entries()) expect(value ?? 0).toBeCloseTo(whole?.logprobs?.token_logprobs?.[at] ?? 0, 4)
})

/** Asks for about 20 MB of an answer as a stream, and reads nothing of it until the caller says so. */
async function askSlowly(to: RunningServer): Promise<IncomingMessage> {
  const long = Array.from({ length: 60 }, (_, at) => `${at} ${'word '.repeat(150)}`)
  const body = JSON.stringify({ model: workbench.model.id, prompt: long, echo: true, max_tokens: 0, logprobs: 20, stream: true })
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
  const asked = request({ host: '127.0.0.1', port: to.port, path: '/v1/completions', method: 'POST', headers })
  asked.end(body)
  const [answer] = (await once(asked, 'response')) as [IncomingMessage]
  return answer.pause()
}

test('an answer that is read slowly is held back, and arrives whole when it is read', async () => {
  held.length = 0
  const answer = await askSlowly(server)
  await eventually(() => held.length > 0, 'the answer to be held back', 60_000)
  expect(held).toEqual([true])
  let [bytes, end] = [0, '']
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    bytes += chunk.length
    end = (end + chunk.toString()).slice(-20)
  }
  expect(end).toMatch(/data: \[DONE\]\n\n$/)
  expect(bytes).toBeGreaterThan(5e6)
  expect(held.at(-1)).toBe(false)
}, 240_000)

test('a client that stops reading is disconnected, and the next one is answered', async () => {
  const impatient = await startServer({
    door: { ...workbench, call: watched },
    pages: workbench.folder,
    host: '127.0.0.1',
    port: 0,
    token,
    patience: { headers: 10_000, request: 60_000, reading: 500 },
  })
  let sent: ServerResponse | undefined
  const watch = (message: unknown) => {
    sent = (message as { response: ServerResponse }).response
  }
  subscribe('http.server.request.start', watch)
  const answer = await askSlowly(impatient)
  unsubscribe('http.server.request.start', watch)
  const broken = once(answer, 'error')
  await eventually(() => sent?.closed, 'the request to be ended', 60_000)
  answer.resume()
  expect((await broken)[0]).toMatchObject({ code: 'ECONNRESET' })
  expect((await client.completions.create({ model: run, prompt, max_tokens: 1 })).choices.length).toBe(1)
  await impatient.close()
}, 240_000)

test.skipIf(process.platform !== 'linux')('clients that leave while they wait free their places at once', async () => {
  const computing = processesOf(process.pid, defaultComputeCommand().at(-1) as string)
  for (const pid of computing) process.kill(pid, 'SIGSTOP')
  try {
    const leaving = new AbortController()
    const asked = { model: run, prompt, max_tokens: 5 }
    states.length = 0
    const first = client.completions.create(asked)
    const left = Array.from({ length: 31 }, () => refusal(client.completions.create(asked, { signal: leaving.signal })))
    await eventually(() => states.length === 32, 'all requests')
    expect(await refusal(client.completions.create(asked))).toMatchObject({ status: 429 })
    leaving.abort()
    await Promise.all(left)
    await eventually(() => states.filter((state) => state === 'left').length === 31, 'all to be let go')
    const next = client.completions.create(asked)
    await eventually(() => states.length === 33, 'the next request')
    for (const pid of computing) process.kill(pid, 'SIGCONT')
    expect((await Promise.all([first, next])).map(({ choices }) => choices.length)).toEqual([1, 1])
  } finally {
    for (const pid of computing) process.kill(pid, 'SIGCONT')
  }
})

test.skipIf(process.platform !== 'linux')('refuses more requests at once than may wait', async () => {
  const leaving = new AbortController()
  const asked = { model: run, prompt, max_tokens: 400, n: 8 }
  // While stopped, the process cannot finish one before all have arrived.
  const computing = processesOf(process.pid, defaultComputeCommand().at(-1) as string)
  for (const pid of computing) process.kill(pid, 'SIGSTOP')
  const all = Array.from({ length: 33 }, () => refusal(client.completions.create(asked, { signal: leaving.signal })))
  const first = await Promise.race(all)
  for (const pid of computing) process.kill(pid, 'SIGCONT')
  leaving.abort()
  expect(first).toMatchObject({ status: 429, type: 'rate_limit_error', code: 'rate_limit_exceeded' })
  expect((await Promise.all(all)).filter(({ status }) => status !== undefined).length).toBe(1)
})
