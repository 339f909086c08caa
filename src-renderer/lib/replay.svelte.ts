import type { Output } from '#contract/api.ts'
import type { RunDescription } from '#contract/runs/runs.ts'
import { call } from '../api/api.ts'
import { router } from './router.svelte.ts'

interface Foreseen extends Output<'runs.foresee'> {
  description: RunDescription
}

let foreseen = $state.raw<Foreseen | null>(null)

/** A described run that the user may reproduce here. */
export const replay = {
  /** Null if there is none to decide about. */
  get foreseen(): Foreseen | null {
    return foreseen
  },
  async ask(description: RunDescription): Promise<void> {
    foreseen = { description, ...(await call('runs.foresee', { description })) }
  },
  forget(): void {
    foreseen = null
  },
  /** Queues the run and opens it. */
  async start(afresh: boolean): Promise<void> {
    if (!foreseen) return
    const { description, model } = foreseen
    const run = await call('runs.replay', { description, model: model.id, afresh, start: 'queue' })
    foreseen = null
    router.go(['run', run.id])
  },
}
