import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type ApiEvent, api, type CallApi, type CallName, isCallName, type Listener } from '#contract/api.ts'
import { EspalierError } from '#contract/errors.ts'
import { explainIssues, readWith } from '#contract/explain-issue.ts'
import { restoreBackup } from '#db/backups.ts'
import { historyFolders } from '#db/history.ts'
import { findGpus } from '#jobs/devices.ts'
import { compose, type WorkbenchOptions } from './compose.ts'
import type { Handlers } from './context.ts'
import { defaultDataFolder } from './models/folders.ts'
import { refuseSystem } from './models/path-gate.ts'

export interface Workbench {
  call: CallApi
  subscribe(listener: Listener): () => void
  /** Executes one run in this process, independently of the queue. Settles when the run has ended. */
  runNow(id: string): Promise<void>
  close(): Promise<void>
}

/** Opens the workbench: every call of the contract, on one data folder. */
export async function openWorkbench(options: WorkbenchOptions & { folder?: string } = {}): Promise<Workbench> {
  const folder = resolve(options.folder ?? defaultDataFolder())
  refuseSystem(folder)
  const listeners = new Set<Listener>()
  const emit = (event: ApiEvent) => {
    for (const listener of listeners) listener(event)
  }
  const settled = { ...options, folder, gpus: options.devices ? [] : await findGpus(), emit }
  const open = () => compose(settled, restore)

  const restore: Handlers['history.restore'] = async ({ name }) => {
    const { file, backups } = historyFolders(folder)
    if (!existsSync(join(backups, name))) throw new EspalierError('not-found', `There is no backup ${name}.`)
    if (inside.others() > 0) throw new EspalierError('conflict', 'Another program has this history open. Close it first.')
    await inside.close('before-restore')
    try {
      restoreBackup(file, backups, name)
    } finally {
      inside = open()
    }
    return inside.handlers['history.get']({ check: true })
  }
  let inside = open()

  return {
    call: ((name, input, signal) => answer(inside, name, input, signal)) as CallApi,
    subscribe(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    runNow: (id) => inside.runNow(id),
    close: () => inside.close(),
  }
}

async function answer(
  { handlers, gate }: ReturnType<typeof compose>,
  name: CallName,
  input: unknown,
  signal?: AbortSignal,
): Promise<unknown> {
  if (!isCallName(name)) throw new EspalierError('not-found', `There is no call ${JSON.stringify(name)}.`)
  const handler = handlers[name] as (input: unknown, signal?: AbortSignal) => unknown
  const checked = check(name, 'input', input)
  gate.settle(api[name].input, checked)
  return check(name, 'output', await handler(checked, signal))
}

function check(name: CallName, side: 'input' | 'output', value: unknown): unknown {
  const parsed = readWith(api[name][side], value)
  if (parsed.success) return parsed.data
  const issues = explainIssues(parsed.error, value)
  const sentences = issues.slice(0, 3).map(({ message }) => message)
  throw new EspalierError(side === 'input' ? 'invalid' : 'internal', `${name}: ${sentences.join(' ')}`, { issues: issues.slice(0, 20) })
}
