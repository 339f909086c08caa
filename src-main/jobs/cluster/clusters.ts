import type { ClusterProfile, ClusterState } from '#contract/clusters/clusters.ts'
import { toErrorMessage } from '#contract/errors.ts'
import type { RunRow } from '#db/runs/runs.ts'
import type { Executor } from '../executor.ts'
import { Cluster, type ClusterTimings, usualClusterTimings } from './cluster.ts'
import { sharedFiles } from './cluster-files.ts'
import type { Command } from './cluster-shell.ts'
import { copiedFiles } from './copied-files.ts'
import type { TakeInParts } from './take-in.ts'

interface ClustersParts extends TakeInParts {
  /** The configured clusters, read on each use. */
  profiles(): readonly ClusterProfile[]
  /** The command that starts `espalier` on a cluster's nodes. */
  programFor(profile: ClusterProfile): Command
  timings?: Partial<ClusterTimings> | undefined
  changed(numbers: readonly number[]): void
}

/** The clusters that runs can be sent to. Their runs continue without this process. */
export class Clusters implements Executor {
  readonly #parts: ClustersParts
  readonly #timings: ClusterTimings
  readonly #open = new Map<string, { cluster: Cluster; made: string }>()
  readonly #problems = new Map<string, string>()
  #turning: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #paused = false
  readonly #closing = new AbortController()

  constructor(parts: ClustersParts) {
    this.#parts = parts
    this.#timings = { ...usualClusterTimings, ...parts.timings }
  }

  get states(): ClusterState[] {
    const rows = this.#parts.history.queue.ofClusters()
    return this.#parts.profiles().map(({ name }) => {
      const mine = rows.filter(({ executor }) => executor === name)
      const count = (status: RunRow['status']) => mine.filter((row) => row.status === status).length
      const problem = this.#problems.get(name) ?? this.#open.get(name)?.cluster.problem ?? null
      return { name, waiting: count('queued'), running: count('running'), problem: mine.length > 0 ? problem : null }
    })
  }

  work(paused: boolean): void {
    this.#paused = paused
    if (this.#closing.signal.aborted || this.#turning) return
    clearTimeout(this.#timer)
    let waits = false
    this.#parts.history.writes.guard(() => {
      waits = this.#parts.history.queue.ofClusters().length > 0
    })
    if (!waits) return
    this.#turning = this.#turn()
      // A turn that the history refuses is repeated by the next one.
      .catch((thrown: unknown) => void (this.#parts.history.writes.report(thrown) || console.error(thrown)))
      .finally(() => {
        this.#turning = undefined
        if (this.#closing.signal.aborted) return
        this.#timer = setTimeout(() => this.work(this.#paused), this.#timings.lookMilliseconds)
        this.#timer.unref()
      })
  }

  async #turn(): Promise<void> {
    const rows = Map.groupBy(this.#parts.history.queue.ofClusters(), ({ executor }) => executor as string)
    await Promise.all([...rows].map(([name, mine]) => this.#turnOf(name, mine)))
  }

  async #turnOf(name: string, rows: readonly RunRow[]): Promise<void> {
    const profile = this.#parts.profiles().find((one) => one.name === name)
    if (!profile) return this.#refuse(rows, `The cluster ${JSON.stringify(name)} is no longer in the settings.`)
    try {
      await this.#clusterOf(profile).turn(rows, this.#paused)
      this.#problems.delete(name)
    } catch (thrown) {
      this.#problems.set(name, toErrorMessage(thrown).message)
    }
  }

  /** Returns the cluster of a profile. A changed profile gets a new object, which finds the earlier one's state in the history. */
  #clusterOf(profile: ClusterProfile): Cluster {
    const made = JSON.stringify(profile)
    const known = this.#open.get(profile.name)
    if (known?.made === made) return known.cluster
    const { history, logs, emit, changed, programFor } = this.#parts
    const { signal } = this.#closing
    const files = profile.copies ? copiedFiles(history, profile, signal) : sharedFiles(history, profile)
    const shared = { history, logs, emit, changed, timings: this.#timings, signal }
    const cluster = new Cluster({ ...shared, profile, program: programFor(profile), files })
    this.#open.set(profile.name, { cluster, made })
    return cluster
  }

  #refuse(rows: readonly RunRow[], message: string): void {
    for (const { number, status } of rows) {
      const fails = status === 'queued' || status === 'running'
      this.#parts.history.runs.patch(number, {
        job: null,
        ...(fails ? { status: 'failed', problem: { code: 'not-found', message, advice: null } } : {}),
      })
    }
    this.#parts.changed(rows.map(({ number }) => number))
  }

  secondsOf(run: string): number {
    return Math.max(0, ...[...this.#open.values()].map(({ cluster }) => cluster.secondsOf(run)))
  }

  /** Starts a turn, which cancels the jobs of the runs, because their rows already say that they stop. */
  abandon(): void {
    this.work(this.#paused)
  }

  allowRetries(): void {}

  async close(): Promise<void> {
    this.#closing.abort()
    clearTimeout(this.#timer)
    await this.#turning
  }
}
