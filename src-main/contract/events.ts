import { z } from 'zod'
import { experimentEntry } from './experiments/experiments.ts'
import { id, ids } from './identifiers.ts'
import { engineState } from './machine/engine-state.ts'
import { settingsView } from './machine/settings.ts'
import { modelEntry, transfer } from './models/models.ts'
import { generationEvent } from './playground/generation.ts'
import { transcriptEntry } from './playground/playground.ts'
import { queueState } from './runs/queue.ts'
import { recordedEvent, runEntry } from './runs/runs.ts'

/**
 * Events that the workbench sends to all listeners, by name. Nothing is replayed: after reconnecting, a listener queries again
 * (`runs.events` returns a run's events after a sequence number).
 */
export const events = {
  /** `elsewhere`: another process ended the run, or asked for its end. */
  'run changed': z.object({ run: runEntry, elsewhere: z.boolean().optional() }),
  'run event': z.object({ run: id, recorded: recordedEvent }),
  'runs removed': z.object({ ids }),
  'experiment changed': z.object({ experiment: experimentEntry }),
  'experiment removed': z.object({ id }),
  'queue changed': z.object({ queue: queueState }),
  'model changed': z.object({ model: modelEntry }),
  'model removed': z.object({ id }),
  'transfer changed': z.object({ transfer }),
  generation: z.object({ session: id, event: generationEvent }),
  'transcript changed': z.object({ transcript: transcriptEntry }),
  'engine changed': z.object({ engine: engineState }),
  /** Another process changed runs, experiments or models. Lists query again. */
  'history changed': z.object({}),
  'settings changed': z.object({ settings: settingsView }),
}

export type EventName = keyof typeof events
export type EventData<E extends EventName> = z.infer<(typeof events)[E]>

/** One event on the wire: `{ name, data }`. */
export type ApiEvent = { [E in EventName]: { name: E; data: EventData<E> } }[EventName]
export type Listener = (event: ApiEvent) => void
