import { z } from 'zod'
import { chosenPlace } from '../places.ts'
import { backendName } from '../runs/run-request.ts'

/** User settings. Folders are absolute paths. */
export const settings = z.object({
  theme: z.enum(['system', 'light', 'dark']),
  backend: backendName,
  memoryBytes: z.number().int().positive().nullable(),
  idleMinutes: z.number().int().min(0).max(1440),
  /** Number of simultaneous runs on the processor. Null is the default: one without a GPU, none with one. */
  cpuSlots: z.number().int().min(0).max(64).nullable(),
  notifyWhenDone: z.boolean(),
  /** Whether runs are resumed that were interrupted when Espalier or their compute process ended. */
  resumeRuns: z.boolean(),
  folders: z.object({ models: chosenPlace, exports: chosenPlace, cache: chosenPlace }),
})

export const settingsChange = settings.extend({ folders: settings.shape.folders.partial() }).partial()

export const settingsView = settings.extend({
  dataFolder: z.string(),
  hubToken: z.object({ present: z.boolean(), from: z.enum(['environment', 'file', 'none']) }),
})

/** The version, and how many models and runs there are. `protocol` changes when calls change incompatibly. */
export const workbenchState = z.object({
  version: z.string(),
  protocol: z.number().int(),
  platform: z.string(),
  models: z.number().int(),
  runs: z.number().int(),
  sampleModel: z.string().nullable(),
})

export const protocolVersion = 1

export type Settings = z.infer<typeof settings>
export type SettingsChange = z.infer<typeof settingsChange>
export type SettingsView = z.infer<typeof settingsView>
export type WorkbenchState = z.infer<typeof workbenchState>
