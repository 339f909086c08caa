import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ApiEvent, api, type CallApi, type CallName, isCallName, type Listener } from '#contract/api.ts'
import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { explainIssues, readWith } from '#contract/explain-issue.ts'
import { restoreBackup } from '#db/backups.ts'
import { faultOf } from '#db/database.ts'
import { type History, historyFolders, newHistoryVariable } from '#db/history.ts'
import { findGpus } from '#jobs/this-machine.ts'
import { compose, type WorkbenchOptions } from './compose.ts'
import type { Handlers } from './context.ts'
import { defaultDataFolder } from './models/folders.ts'
import { refuseSystem } from './models/path-gate.ts'

/** How long a call of a server or a window waits for another program's lock. Clients give up after a minute. */
const lockedMilliseconds = 20_000
const reopenMilliseconds = 250

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
  const onObstacle = options.onObstacle ?? ((message: string | null) => console.error(message ?? 'The history can be written again.'))
  const settled = { ...options, onObstacle, folder, gpus: options.devices ? [] : await findGpus(), emit }
  const open = (besideValues: boolean) => compose({ ...settled, besideValues }, restore)

  const restore: Handlers['history.restore'] = async ({ name }) => {
    const { file, backups } = historyFolders(folder)
    if (!existsSync(join(backups, name))) throw new EspalierError('not-found', `There is no backup ${name}.`)
    if (inside.others() > 0) throw new EspalierError('conflict', 'Another program has this history open. Close it first.')
    await inside.close('before-restore')
    try {
      restoreBackup(file, backups, name)
    } finally {
      inside = open(true)
    }
    return inside.handlers['history.get']({ check: true })
  }
  let inside = await openOrAsk(open, settled)

  return {
    call: ((name, input, signal) => answer(inside, name, input, options.patience, signal)) as CallApi,
    subscribe(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    runNow: (id) => inside.runNow(id),
    close: () => inside.close(),
  }
}

type Open = (besideValues: boolean) => ReturnType<typeof compose>

/**
 * Opens the workbench. Waits while another program has locked the history, or its disk is full, if opening must write: a new or an older
 * history, or one whose last program was killed. If a new history would begin beside the stored values of another one, the user decides
 * whether it may.
 */
async function openOrAsk(open: Open, { mayBegin, onObstacle, signal }: Pick<WorkbenchOptions, 'mayBegin' | 'onObstacle' | 'signal'>) {
  let besideValues = process.env[newHistoryVariable] === '1'
  let isTold = false
  for (;;) {
    try {
      return open(besideValues)
    } catch (thrown) {
      const fault = faultOf(thrown)
      if (fault === 'locked' || fault === 'full') {
        if (!isTold) onObstacle?.(`${toErrorMessage(thrown).message.replace(/ Try again.*/, '')} Espalier starts when it can be written.`)
        isTold = true
        await sleep(reopenMilliseconds, undefined, { signal })
      } else if (thrown instanceof EspalierError && thrown.details?.newHistory === true && (await mayBegin?.(thrown.message)))
        besideValues = true
      else throw thrown
    }
  }
}

async function answer(
  { handlers, gate, history }: ReturnType<typeof compose>,
  name: CallName,
  input: unknown,
  patience: WorkbenchOptions['patience'],
  signal?: AbortSignal,
): Promise<unknown> {
  if (!isCallName(name)) throw new EspalierError('not-found', `There is no call ${JSON.stringify(name)}.`)
  const handler = handlers[name] as (input: unknown, signal?: AbortSignal) => unknown
  const checked = check(name, 'input', input)
  gate.settle(api[name].input, checked)
  return check(name, 'output', await patiently(history, patience, () => handler(checked, signal), signal))
}

/**
 * Repeats a call that the history refused before the call changed anything. If it had changed something, or if the user can do something about
 * it, the call fails with the reason.
 */
async function patiently(
  history: History,
  patience: WorkbenchOptions['patience'],
  call: () => unknown,
  signal?: AbortSignal,
): Promise<unknown> {
  const { writes } = history
  const begun = performance.now()
  for (;;) {
    const before = history.changes()
    try {
      return await call()
    } catch (thrown) {
      if (!writes.report(thrown) || history.changes() !== before) throw thrown
      const usual = writes.obstacle?.kind === 'locked' ? lockedMilliseconds : 0
      const longest = patience === 'command' ? Number.POSITIVE_INFINITY : usual
      await writes.clear(longest - (performance.now() - begun), signal)
    }
  }
}

function check(name: CallName, side: 'input' | 'output', value: unknown): unknown {
  const parsed = readWith(api[name][side], value)
  if (parsed.success) return parsed.data
  const issues = explainIssues(parsed.error, value)
  const sentences = issues.slice(0, 3).map(({ message }) => message)
  const details = { call: name, issues: issues.slice(0, 20) }
  throw new EspalierError(side === 'input' ? 'invalid' : 'internal', sentences.join(' '), details)
}
