import { type ClusterFinding, type ClusterProfile, emptyProfile } from '#contract/clusters/clusters.ts'
import type { ErrorMessage } from '#contract/errors.ts'
import { call } from '../../api/api.ts'
import { failureOf } from '../../lib/failure.ts'
import { attempt, notify } from '../../lib/notices.svelte.ts'

/** The configured clusters, the one being edited, and the findings of its check. */
export class ClustersState {
  clusters = $state.raw<ClusterProfile[]>([])
  draft = $state<ClusterProfile | null>(null)
  /** The batch script of the draft. */
  script = $state('')
  problem = $state.raw<ErrorMessage | null>(null)
  checking = $state('')
  findings = $state.raw<Readonly<Record<string, ClusterFinding[]>>>({})

  async load(): Promise<void> {
    await attempt(async () => (this.clusters = await call('clusters.list', {})))
  }

  edit(profile: ClusterProfile | null): void {
    this.draft = { ...(profile ?? emptyProfile) }
    this.problem = null
    this.script = ''
    if (profile) void this.show()
  }

  change(changes: Partial<ClusterProfile>): void {
    if (!this.draft) return
    Object.assign(this.draft, changes)
    this.script = ''
    this.problem = null
  }

  /** Shows the batch script that would be sent, or what is wrong with the draft. */
  async show(): Promise<boolean> {
    return this.#attempt(async (cluster) => {
      this.script = (await call('clusters.script', { cluster })).script
    })
  }

  async save(): Promise<void> {
    const saved = await this.#attempt(async (cluster) => {
      this.clusters = await call('clusters.save', { cluster })
      notify(`Cluster ${cluster.name} saved`)
    })
    if (saved) this.draft = null
  }

  async remove(name: string): Promise<void> {
    await attempt(async () => (this.clusters = await call('clusters.remove', { name })))
  }

  async check(name: string): Promise<void> {
    this.checking = name
    await attempt(async () => (this.findings = { ...this.findings, [name]: await call('clusters.check', { name }) }))
    this.checking = ''
  }

  async #attempt(act: (cluster: ClusterProfile) => Promise<void>): Promise<boolean> {
    const { draft } = this
    if (!draft) return false
    this.problem = await failureOf(() => act($state.snapshot(draft)))
    return this.problem === null
  }
}
