import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { z } from 'zod'
import { api, type CallName, type Output } from '#contract/api.ts'
import { toErrorMessage } from '#contract/errors.ts'
import { type Opened, openedWorkbench } from '../services/opened.ts'
import { mutateBytes, mutateJson, strangeText, strangeValue } from './mutate.ts'
import type { Random } from './random.ts'

const callNames = Object.keys(api) as CallName[]

/** One case's request to the workbench. */
export interface Request {
  name: CallName
  input: unknown
}

/** A workbench with an engine that does no work, and the ids seen in its answers. */
export class CallAttack {
  readonly #workbench: Opened
  readonly #ids: string[] = []
  readonly #folder: string
  /** Files to import: an experiment of drafts, and one of finished runs. */
  readonly #exported: string[]

  private constructor(workbench: Opened, folder: string, realExport: string) {
    this.#exported = [realExport]
    this.#workbench = workbench
    this.#folder = folder
  }

  static async open(realExport: string): Promise<CallAttack> {
    const folder = mkdtempSync(join(tmpdir(), 'espalier-fuzz-calls-'))
    const attack = new CallAttack(await openedWorkbench({ folder }), folder, realExport)
    await attack.#fill()
    return attack
  }

  /** The attacked workbench, for its other doors. */
  get opened(): Opened {
    return this.#workbench
  }

  get door(): Pick<Opened, 'call' | 'subscribe'> {
    return this.#workbench
  }

  anyId(random: Random): string {
    return random.pick(this.#ids)
  }

  async #fill(): Promise<void> {
    const { call, model } = this.#workbench
    const grid = {
      models: [model.id],
      methods: [{ method: '2ssp', options: {} }],
      amounts: [{ sparsity: 0.25 }],
      measures: [],
      calibration: { source: 'sample', sequenceLength: 8 },
      backend: 'auto' as const,
    }
    const { experiment } = await call('experiments.create', { name: 'first', grid: grid as never, start: 'draft' })
    this.#exported.push((await call('experiments.export', { id: experiment.id })).content)
    this.#remember(await call('runs.query', {}))
    this.#remember(await call('models.list', {}))
    this.#remember(experiment)
  }

  /** Collects ids from an answer for later requests. */
  #remember(answer: unknown): void {
    for (const [, id] of JSON.stringify(answer ?? null)
      .slice(0, 50_000)
      .matchAll(/"id":"([a-z0-9-]{3,64})"/g))
      if (id && !this.#ids.includes(id)) this.#ids.push(id)
    this.#ids.splice(0, Math.max(0, this.#ids.length - 200))
  }

  request(random: Random): Request {
    if (random.chance(0.25)) return { name: 'experiments.import', input: { content: this.#experiment(random) } }
    const name = random.pick(callNames.filter((one) => one !== 'models.download'))
    const input = this.#value(api[name].input, random, '')
    return { name, input: random.chance(0.2) ? mutateJson(input, random) : input }
  }

  async perform({ name, input }: Request): Promise<unknown> {
    const answer = await this.#workbench.call(name, input as never)
    this.#remember(answer)
    if (name === 'experiments.import') await this.#lookAt((answer as Output<'experiments.import'>).experiment.id)
    return answer
  }

  /** Opens what a user sees of an imported experiment: its runs, their comparison, and its file, which must be importable. */
  async #lookAt(id: string): Promise<void> {
    const { call } = this.#workbench
    const { rows } = await call('runs.query', { experiment: id, limit: 1000 })
    for (const run of rows) await call('runs.get', { id: run.id })
    const runs = rows.map((run) => run.id)
    if (runs.length > 0) await call('compare.get', { ids: runs.slice(0, 500) })
    const { content } = await call('experiments.export', { id })
    await call('experiments.import', { content }).catch((thrown) => {
      throw new Error(`An imported experiment cannot be exported and imported again: ${toErrorMessage(thrown).message}`)
    })
  }

  #experiment(random: Random): string {
    const source = random.pick(this.#exported)
    if (random.chance(0.2)) return mutateBytes(Buffer.from(source), random).toString()
    const text = JSON.stringify(mutateJson(JSON.parse(source), random))
    return random.chance(0.1) ? text.slice(0, random.below(text.length)) : text
  }

  /** A value that usually fits a schema. */
  #value(schema: z.ZodType, random: Random, key: string): unknown {
    if (random.chance(0.03)) return strangeValue(random)
    const definition = schema.def as unknown as Record<string, unknown> & { type: string }
    switch (definition.type) {
      case 'object':
        return Object.fromEntries(
          Object.entries(definition.shape as Record<string, z.ZodType>).flatMap(([name, inner]) =>
            this.#isLeftOut(inner, random) ? [] : [[name, this.#value(inner, random, name)]],
          ),
        )
      case 'array':
        return Array.from({ length: random.below(4) }, () => this.#value(definition.element as z.ZodType, random, key))
      case 'record':
        return { [strangeText(random).slice(0, 20)]: this.#value(definition.valueType as z.ZodType, random, key) }
      case 'union':
        return this.#value(random.pick(definition.options as z.ZodType[]), random, key)
      case 'pipe':
        return this.#value(definition.in as z.ZodType, random, key)
      case 'enum':
        return random.pick(Object.values(definition.entries as Record<string, unknown>))
      case 'literal':
        return (definition.values as unknown[])[0]
      case 'number':
        return random.pick([0, 1, 2, 5, 100, 0.5, 0.25, -1, 2 ** 31, 1e6])
      case 'boolean':
        return random.chance(0.5)
      case 'string':
        return this.#text(schema, random, key)
      case 'unknown':
        return strangeValue(random)
      default:
        return definition.innerType ? this.#value(definition.innerType as z.ZodType, random, key) : null
    }
  }

  #isLeftOut(schema: z.ZodType, random: Random): boolean {
    return ['optional', 'default', 'prefault', 'nullable'].includes(schema.def.type) && random.chance(0.5)
  }

  #text(schema: z.ZodType, random: Random, key: string): string {
    if (schema.meta()?.place !== undefined)
      return random.pick([
        join(this.#folder, 'given', 'tiny'),
        join(this.#folder, 'made'),
        'relative',
        '/proc/x',
        '/dev/zero',
        '/nowhere/at/all',
        strangeText(random),
      ])
    if (/^(id|ids|model|models|run|experiment|baseline|before)$/.test(key) && random.chance(0.9)) return random.pick(this.#ids)
    if (key === 'method' || key === 'id') return random.pick(['2ssp', 'shortgpt', 'dense'])
    return random.chance(0.7) ? random.pick(['text', 'sample', 'status', 'createdAt', 'perplexity', 'json']) : strangeText(random)
  }
}
