import { createHash } from 'node:crypto'
import {
  appendFileSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
} from 'node:fs'
import { readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { version } from '#contract/version.ts'
import type { RunHost, StepResult } from '#engine/run-steps.ts'
import { defaultDataFolder } from '#services/folders.ts'

/**
 * Steps that a command has done, one JSON line each, flushed before the run goes on. The same command finds them again after it was
 * killed; it ends by removing them. A last line that was cut by the kill is dropped.
 */
export class StepJournal {
  readonly #file: string
  readonly #steps = new Map<string, unknown>()

  private constructor(file: string) {
    this.#file = file
    for (const line of readLines(file)) this.#steps.set(line.name, line.value)
  }

  /** The journal of a command: what is asked of which files. */
  static async open(...requests: readonly { readonly model: string }[]): Promise<StepJournal> {
    const folder = join(defaultDataFolder(), 'steps')
    mkdirSync(folder, { recursive: true })
    const identity = [version, requests, await Promise.all([...new Set(requests.map((request) => request.model))].map(fingerprint))]
    const hash = createHash('sha256').update(JSON.stringify(identity)).digest('hex').slice(0, 32)
    return new StepJournal(join(folder, `${hash}.jsonl`))
  }

  get size(): number {
    return this.#steps.size
  }

  /** Steps of one run of the command; shared ones are found by all of its runs. */
  stepsOf(run: number): RunHost['steps'] {
    const key = (name: string) => (name.startsWith('shared:') ? name : `${run}:${name}`)
    return {
      folder: dirname(this.#file),
      get: async (name) => this.#steps.get(key(name)) as StepResult | undefined,
      put: async (name, value, tensors) => this.#write(key(name), { value, ...(tensors ? { tensors } : {}) }),
    }
  }

  #write(name: string, value: unknown): void {
    this.#steps.set(name, value)
    const file = openSync(this.#file, 'a')
    try {
      appendFileSync(file, `${JSON.stringify({ name, value })}\n`)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
  }

  /** The command is done: nothing to go on from. */
  remove(): void {
    rmSync(this.#file, { force: true })
  }
}

function readLines(file: string): { name: string; value: unknown }[] {
  if (!existsSync(file)) return []
  const text = readFileSync(file, 'utf8')
  const whole = text.lastIndexOf('\n') + 1
  if (whole < text.length) truncateSync(file, Buffer.byteLength(text.slice(0, whole)))
  return text
    .slice(0, whole)
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { name: string; value: unknown })
}

/** Names, sizes and times of a model's files: another model under the same name must not be answered with old steps. */
async function fingerprint(path: string): Promise<unknown> {
  const found = statSync(path, { throwIfNoEntry: false })
  if (!found) return path
  const names = found.isDirectory() ? (await readdir(path)).sort() : ['']
  return names.map((name) => {
    const { size, mtimeMs } = statSync(join(path, name))
    return [name, size, mtimeMs]
  })
}
