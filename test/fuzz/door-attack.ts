import { mkdtempSync } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { commands } from '#cli/commands/index.ts'
import { checkFlags } from '#cli/flags/check-flags.ts'
import { flagTable } from '#cli/flags/flag-table.ts'
import { parseFlags } from '#cli/flags/flags.ts'
import { commandedRuns } from '#cli/requests.ts'
import { type ErrorCode, EspalierError, errorCodes } from '#contract/errors.ts'
import { makeToken } from '#server/guard/token.ts'
import type { RunningServer } from '#server/server.ts'
import { startServer } from '#server/server.ts'
import type { CallAttack } from './call-attack.ts'
import { mutateBytes, mutateJson, strangeText, strangeValue } from './mutate.ts'
import type { Random } from './random.ts'

/** A request over HTTP: where it goes, and its body as it is sent. */
export interface Body {
  readonly path: string
  readonly body: string
}

/** Attacks a real server of the attacked workbench with bodies, and the command line with flags. */
export class DoorAttack {
  readonly #calls: CallAttack
  readonly #server: RunningServer
  readonly #token: string
  readonly #folder = mkdtempSync(join(tmpdir(), 'espalier-fuzz-door-'))

  private constructor(calls: CallAttack, server: RunningServer, token: string) {
    this.#calls = calls
    this.#server = server
    this.#token = token
  }

  static async open(calls: CallAttack): Promise<DoorAttack> {
    const token = makeToken()
    const pages = mkdtempSync(join(tmpdir(), 'espalier-fuzz-pages-'))
    return new DoorAttack(calls, await startServer({ door: calls.door, pages, host: '127.0.0.1', port: 0, token }), token)
  }

  /** A body for OpenAI's addresses, or for a call. */
  body(random: Random): Body {
    if (random.chance(0.3)) {
      const { name, input } = this.#calls.request(random)
      return { path: `/api/${name}`, body: this.#spoil(input, random) }
    }
    const isChat = random.chance(0.4)
    const value = isChat ? this.#chat(random) : this.#completion(random)
    const wanted = random.chance(0.4) ? mutateJson(value, random) : value
    return { path: isChat ? '/v1/chat/completions' : '/v1/completions', body: this.#spoil(wanted, random) }
  }

  #spoil(value: unknown, random: Random): string {
    const text = JSON.stringify(value) ?? ''
    return random.chance(0.05) ? mutateBytes(Buffer.from(text), random).toString() : text
  }

  #completion(random: Random): Record<string, unknown> {
    const many = random.pick([1, 3, 40, 3000, 300_000])
    const prompt = random.pick([
      'Once upon a time',
      ['one', 'two'],
      [1, 2, 3],
      [[1, 2], [3]],
      Array.from({ length: many }, () => random.pick([1, 2, 400, -1, 0.5, 1e9])),
      Array.from({ length: many }, () => 7),
      Array.from({ length: Math.min(many, 3000) }, () => strangeValue(random)),
      strangeText(random).repeat(random.pick([1, 1000])),
    ])
    return { ...this.#shared(random), prompt, echo: random.chance(0.3), logprobs: random.pick([null, 0, 1, 20, 21]) }
  }

  #chat(random: Random): Record<string, unknown> {
    const message = () => ({
      role: random.pick(['user', 'system', 'assistant', 'tool', strangeText(random)]),
      content: random.pick(['Hello', strangeText(random), [{ type: 'text', text: 'Hi' }], strangeValue(random)]),
    })
    const messages = Array.from({ length: random.pick([0, 1, 2, 5, 1001]) }, message)
    return { ...this.#shared(random), messages, logprobs: random.chance(0.3), top_logprobs: random.pick([null, 0, 5, 99]) }
  }

  #shared(random: Random): Record<string, unknown> {
    const numbers = [0, 1, 2, 0.5, -1, 1e-38, 1e38, 16, 17, 100_000, null, '1', 2 ** 53]
    const some = ['temperature', 'top_p', 'top_k', 'min_p', 'repetition_penalty', 'seed', 'n', 'presence_penalty', 'logit_bias', 'best_of']
    const extra = some.filter(() => random.chance(0.15)).map((name) => [name, random.pick(numbers)])
    return {
      model: random.chance(0.8) ? this.#calls.anyId(random) : strangeText(random),
      max_tokens: random.pick([0, 1, 4, 4, 4, -1, 1e9]),
      stream: random.chance(0.3),
      ...(random.chance(0.2) ? { stop: random.pick(['a', ['a', 'b'], '', strangeValue(random)]) } : {}),
      ...Object.fromEntries(extra),
    }
  }

  /** Sends a body. Throws for an answer that is a failure, in the form that this address promises. */
  async send({ path, body }: Body): Promise<void> {
    const headers = {
      authorization: `Bearer ${this.#token}`,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    }
    const [status, text] = await new Promise<[number, string]>((resolve, reject) => {
      // A connection of its own: the server may close one that was idle just when it is used again.
      const to = { host: '127.0.0.1', port: this.#server.port, path, method: 'POST', headers, agent: false } as const
      const asked = request(to, (answer: IncomingMessage) => {
        const chunks: Buffer[] = []
        answer.on('data', (chunk: Buffer) => chunks.push(chunk))
        answer.on('end', () => resolve([answer.statusCode ?? 0, Buffer.concat(chunks).toString()]))
        answer.on('error', reject)
      })
      asked.on('error', reject)
      asked.end(body)
    })
    if (status === 200 && text.startsWith('data: ')) return checkStream(text)
    const answer = JSON.parse(text) as { code?: string; message?: string; error?: { message: string; type: string } }
    if (status === 200) return
    const { code, message } = path.startsWith('/v1/') ? openAiFailure(status, answer.error) : answer
    const known = errorCodes.find((one) => one === code) ?? (code === 'refused' ? 'usage' : 'internal')
    throw new EspalierError(
      status >= 500 && status !== 507 && status !== 503 ? 'internal' : known,
      message ?? `no message: ${text.slice(0, 200)}`,
    )
  }

  /** Words for the command line: flags of a run, or of another command. */
  flags(random: Random): string[] {
    return random.chance(0.6) ? this.#runFlags(random) : this.#commandFlags(random)
  }

  #runFlags(random: Random): string[] {
    const names = Object.keys(flagTable).filter((name) => name !== 'help')
    const usual = [
      '--model=sample',
      ...(random.chance(0.8) ? ['--pruning_method=2ssp'] : []),
      ...(random.chance(0.6) ? ['--sparsity=0.25'] : []),
    ]
    const others = Array.from({ length: random.below(5) }, () => {
      const name = random.chance(0.95) ? random.pick(names) : strangeText(random).slice(0, 10)
      const spelled = random.chance(0.1) ? name.replaceAll('_', '-') : name
      return random.chance(0.85) ? `--${spelled}=${flagValue(random)}` : `--${spelled}`
    })
    return [...usual, ...others]
  }

  #commandFlags(random: Random): string[] {
    const name = random.pick(['runs', 'models', 'repair', 'recover', 'report', 'worth', 'questions', 'answer', 'judge', 'bench-file'])
    const words = [
      'list',
      'show',
      'export',
      'remove',
      'cancel',
      'resume',
      'add',
      this.#calls.anyId(random),
      this.#calls.anyId(random),
      strangeText(random),
    ]
    const flags = [
      'limit',
      'search',
      'status',
      'format',
      'log',
      'json',
      'rounds',
      'windows',
      'prompts',
      'threads',
      'text',
      'tokens',
      'kind',
      'seed',
    ]
    const given = Array.from({ length: random.below(5) }, () =>
      random.chance(0.6) ? random.pick(words) : `--${random.pick(flags)}${random.chance(0.8) ? `=${flagValue(random)}` : ''}`,
    )
    return [name, ...given]
  }

  /** Reads flags and prepares what they ask for, or does a command that talks to the attacked server. Throws for what they refuse. */
  async command(words: readonly string[]): Promise<void> {
    const [name = '', ...rest] = words
    if (name.startsWith('--')) return this.#prepare(words)
    const verb = commands[name as keyof typeof commands]
    process.env.ESPALIER_SERVER = `${this.#server.address}#token=${this.#token}`
    const printed = { out: '', error: '' }
    const [log, error, write] = [console.log, console.error, process.stdout.write]
    console.log = (text: unknown) => {
      printed.out += `${text}\n`
    }
    console.error = (text: unknown) => {
      printed.error += `${text}\n`
    }
    process.stdout.write = () => true
    const before = process.cwd()
    process.chdir(this.#folder)
    let code = 0
    try {
      code = await verb(rest)
    } finally {
      Object.assign(console, { log, error })
      process.stdout.write = write
      process.chdir(before)
    }
    if (code !== 0)
      throw new EspalierError(printed.error === '' && printed.out === '' ? 'internal' : 'usage', printed.error || printed.out || 'no words')
  }

  async #prepare(words: readonly string[]): Promise<void> {
    const flags = parseFlags(words)
    checkFlags(flags)
    const { call, model } = this.#calls.opened
    const commanded = commandedRuns(flags, model)
    if ('request' in commanded) await call('runs.create', { model: model.id, request: commanded.request, start: 'draft' })
    else await call('experiments.create', { name: 'flags', grid: commanded.grid, start: 'draft', leaveOut: commanded.sweep })
  }
}

const flagValue = (random: Random): string =>
  random.pick([
    ...[
      '0',
      '1',
      '-1',
      '-2',
      '0.5',
      '1e9',
      '1e400',
      '',
      ' ',
      ',',
      '1,2,3',
      '0,0',
      'true',
      'none',
      'all',
      'sample',
      'nan',
      'Infinity',
      '-0',
    ],
    ...[
      '2ssp',
      'shortgpt,2ssp',
      'gguf',
      'exact,gguf',
      'Q8_0',
      'F16,Q4_K_M',
      'wikitext2',
      'c4-train',
      '/nowhere',
      '6GB',
      '1.4MB',
      '30tok/s',
    ],
    ...[
      '200ms@2048',
      '10min',
      '256k',
      'norm=1',
      'alpha=x',
      'x',
      'in-order',
      '9'.repeat(30),
      '9'.repeat(400),
      strangeText(random),
      `${strangeText(random)}=1`,
    ],
  ])

/** An error in OpenAI's form, in ours. Only the type says whether the server is at fault. */
function openAiFailure(status: number, error: { message: string; type: string } | undefined): { code: ErrorCode; message: string } {
  if (!error) return { code: 'internal', message: 'The failure has no error.' }
  return { code: error.type === 'server_error' && status >= 500 ? 'internal' : 'usage', message: error.message }
}

/** Throws unless every piece of a stream is an object of JSON, and the last one ends it. */
function checkStream(text: string): void {
  const pieces = text.split('\n\n').filter((piece) => piece !== '')
  const failures = pieces.slice(0, -1).map((piece) => JSON.parse(piece.replace(/^data: /, '')) as { error?: { message: string } })
  const last = pieces.at(-1)?.replace(/^data: /, '') ?? ''
  if (last === '[DONE]' && failures.every(({ error }) => error === undefined)) return
  const { error } = JSON.parse(last) as { error?: { message: string; type: string } }
  if (!error) throw new Error('A stream ended without [DONE] and without an error.')
  const { code, message } = openAiFailure(error.type === 'server_error' ? 500 : 400, error)
  throw new EspalierError(code, message)
}
