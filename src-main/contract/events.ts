import { z } from 'zod'
import { engineState } from './engine-state.ts'
import { experimentEntry } from './experiments.ts'
import { generationEvent } from './generation.ts'
import { id, ids } from './identifiers.ts'
import { modelEntry, transfer } from './models.ts'
import { transcriptEntry } from './playground.ts'
import { queueState } from './queue.ts'
import { recordedEvent, runEntry } from './runs.ts'
import { settingsView } from './settings.ts'

/**
 * What the workbench tells everyone who listens, by name. Nothing is replayed: after a reconnect the listener asks again
 * (`runs.events` gives the events of a run after a sequence number).
 */
export const events = {
  'run changed': z.object({ run: runEntry }),
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
  'settings changed': z.object({ settings: settingsView }),
}

export type EventName = keyof typeof events
export type EventData<E extends EventName> = z.infer<(typeof events)[E]>

/** One event as it goes over a wire: `{ name, data }`. */
export type ApiEvent = { [E in EventName]: { name: E; data: EventData<E> } }[EventName]
export type Listener = (event: ApiEvent) => void
