import { z } from 'zod'
import { call } from '../call.ts'
import { nothing } from '../identifiers.ts'
import { backendName } from '../runs/run-request.ts'
import { engineState, selfTest } from './engine-state.ts'
import { backup, historyState } from './history.ts'
import { settingsChange, settingsView, workbenchState } from './settings.ts'

export const machineCalls = {
  'workbench.get': call('Version and platform, and how many models and runs there are.', nothing, workbenchState),

  'settings.get': call('The current settings.', nothing, settingsView),
  'settings.update': call('Change settings.', settingsChange, settingsView, 'disk'),
  'settings.setHubToken': call(
    'Store a hub token in a file that only this user can read, or delete it.',
    z.object({
      token: z
        .string()
        .trim()
        .min(1)
        .max(500)
        .regex(/^[\x21-\x7e]+$/)
        .nullable(),
    }),
    settingsView,
    'disk',
  ),

  'engine.get': call('Backend and device in use, and why.', z.object({ probe: z.boolean().default(false) }), engineState),
  'engine.selfTest': call(
    'Check operations with known results, and measure the speed of this machine.',
    z.object({ backend: backendName.default('auto') }),
    selfTest,
    'conflict',
  ),
  'engine.diagnostics': call('Everything a bug report needs, without secrets.', nothing, z.object({ text: z.string() })),

  'history.get': call(
    'The history file, its size, its health and its backups.',
    z.object({ check: z.boolean().default(false) }),
    historyState,
  ),
  'history.backup': call('Back up the history.', nothing, backup, 'disk'),
  'history.removeUnknown': call(
    'Delete the stored values that this history does not know. They may belong to another history or to a later state of this one.',
    nothing,
    historyState,
    'disk',
  ),
  'history.restore': call(
    'Replace the history with a backup; the current one is backed up first.',
    z.object({ name: z.string().regex(/^\w[\w.-]{0,119}$/) }),
    historyState,
    'not-found',
    'conflict',
    'disk',
  ),
}
