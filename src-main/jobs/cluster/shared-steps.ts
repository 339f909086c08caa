import { closeSync, copyFileSync, existsSync, linkSync, mkdirSync, openSync, renameSync, rmSync, statSync, utimesSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { TensorFile } from '#contract/pruning/plan.ts'
import { unfinishedName } from '#runtime/write-whole.ts'
import type { FoundStep } from '../compute/job-side.ts'
import { hashOf, readStep, writeStep } from './run-folder.ts'

export interface SharedTimings {
  lookMilliseconds: number
  /** A holder that has not touched its claim for this long (by the waiter's clock) is considered dead. */
  silenceMilliseconds: number
}

const usualTimings: SharedTimings = { lookMilliseconds: 500, silenceMilliseconds: 20_000 }

/**
 * Steps shared between runs, one file each. A step's name includes everything that the step depends on. The first run computes it, and the
 * others wait as long as that run is alive. Computing a step twice is harmless.
 */
export class SharedSteps {
  readonly #folder: string
  readonly #timings: SharedTimings
  readonly #mine = new Set<string>()
  readonly #beat: NodeJS.Timeout

  constructor(folder: string, timings: Partial<SharedTimings> = {}) {
    this.#folder = folder
    this.#timings = { ...usualTimings, ...timings }
    mkdirSync(this.#tensors, { recursive: true })
    this.#beat = setInterval(() => this.#touchClaims(), this.#timings.silenceMilliseconds / 4)
    this.#beat.unref()
  }

  get #tensors(): string {
    return join(this.#folder, 'tensors')
  }

  #fileOf = (key: string): string => join(this.#folder, `${key}.json`)
  #claimOf = (key: string): string => join(this.#folder, `${key}.claim`)

  /** Returns a step, or undefined if the caller must compute it. Waits while another run computes it. */
  async get(name: string, signal: AbortSignal): Promise<FoundStep | undefined> {
    const key = hashOf(name)
    let seen: number | undefined
    let since = performance.now()
    for (;;) {
      const found = readStep(this.#fileOf(key), this.#tensors)
      if (found?.name === name) return { value: found.value, ...(found.tensors ? { tensors: found.tensors } : {}) }
      if (this.#claim(key)) return undefined
      const beat = beatOf(this.#claimOf(key))
      if (beat !== seen) since = performance.now()
      seen = beat
      if (performance.now() - since > this.#timings.silenceMilliseconds) rmSync(this.#claimOf(key), { force: true })
      await sleep(this.#timings.lookMilliseconds, undefined, { signal })
    }
  }

  put(name: string, value: unknown, tensors?: TensorFile): void {
    const key = hashOf(name)
    if (tensors) placeFile(tensors.file, join(this.#tensors, basename(tensors.file)))
    writeStep(this.#fileOf(key), { name, value, ...(tensors ? { tensors } : {}) })
    this.#leave(key)
  }

  /** Releases unfinished steps so that other runs compute them. */
  close(): void {
    clearInterval(this.#beat)
    for (const key of [...this.#mine]) this.#leave(key)
  }

  #claim(key: string): boolean {
    if (this.#mine.has(key)) return true
    try {
      closeSync(openSync(this.#claimOf(key), 'wx', 0o600))
      this.#mine.add(key)
      return true
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code === 'EEXIST') return false
      throw thrown
    }
  }

  #leave(key: string): void {
    this.#mine.delete(key)
    rmSync(this.#claimOf(key), { force: true })
  }

  #touchClaims(): void {
    const now = new Date()
    for (const key of this.#mine) {
      try {
        utimesSync(this.#claimOf(key), now, now)
      } catch {
        // Another run took the step over, so both compute it, with equal results.
      }
    }
  }
}

function beatOf(file: string): number | undefined {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs
}

/** Makes a file available at another path too: as a hard link if the disk supports it, else as an atomic copy. */
export function placeFile(from: string, to: string): void {
  if (from === to || existsSync(to)) return
  try {
    linkSync(from, to)
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'EEXIST') return
    const unfinished = unfinishedName(to)
    copyFileSync(from, unfinished)
    renameSync(unfinished, to)
  }
}
