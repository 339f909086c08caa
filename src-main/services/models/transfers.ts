import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { Transfer } from '#contract/models/models.ts'
import { newId } from '#db/ids.ts'
import type { Calls, Context } from '../context.ts'

/** The least time between two progress reports. */
const reportMilliseconds = 200
/** How long closing waits for transfers whose disk or server does not respond. */
const closeMilliseconds = 3000

interface RunningTransfer {
  kind: Transfer['kind']
  controller: AbortController
  wish: 'paused' | 'cancelled' | null
  over: Promise<void>
}

interface TransferWork {
  kind: Transfer['kind']
  name: string
  totalBytes: number | null
  /** The model that is measured. */
  about?: string
  /** What is needed to start it again. Passed to the function that `onResume` registered for its kind. */
  request: Record<string, unknown>
}

/** Does the work of a transfer. Returns the id of the model that it added to the library; null if it added none. */
export type Move = (
  signal: AbortSignal,
  report: (
    progress: Partial<
      Pick<Transfer, 'doneBytes' | 'totalBytes' | 'bytesPerSecond' | 'secondsLeft' | 'saved' | 'opened' | 'turns' | 'bench' | 'speeds'>
    >,
  ) => void,
  id: string,
) => Promise<string | null>

const stopped = { bytesPerSecond: null, secondsLeft: null }

/**
 * Downloads, copies, exports and measurements of files. All report progress and can be cancelled. Only downloads can be paused, and resumed
 * after a restart.
 */
export class Transfers {
  readonly #context: Pick<Context, 'history' | 'owner' | 'emit'>
  readonly #running = new Map<string, RunningTransfer>()
  readonly #restart = new Map<string, (request: Record<string, unknown>) => Move>()

  constructor(context: Pick<Context, 'history' | 'owner' | 'emit'>) {
    this.#context = context
  }

  readonly calls: Calls<'transfers'> = {
    'transfers.list': () => this.#context.history.transfers.list(),
    'transfers.pause': ({ id }) => this.#stop(id, 'paused'),
    'transfers.cancel': ({ id }) => this.#stop(id, 'cancelled'),
    'transfers.resume': ({ id }) => this.#resume(id),
  }

  /** Registers how to resume a kind of transfer. */
  onResume(kind: Transfer['kind'], restart: (request: Record<string, unknown>) => Move): void {
    this.#restart.set(kind, restart)
  }

  /** Begins a transfer. If one of the same request is paused, the new one takes its id, so that no paused entry is left behind. */
  begin(
    work: TransferWork,
    move: Move,
    id: string = this.#pausedOf(work) ?? newId('move'),
  ): { transfer: Transfer; over: Promise<Transfer> } {
    const { request, ...given } = work
    const { kind } = given
    let transfer: Transfer = { id, ...given, status: 'running', doneBytes: 0, model: null, problem: null, ...stopped }
    const controller = new AbortController()
    let began: Begun | undefined
    let toldAt = Number.NEGATIVE_INFINITY
    this.#keep(transfer, request)
    const moved = move(
      controller.signal,
      (progress) => {
        transfer = { ...transfer, ...progress }
        const now = performance.now()
        // Before its first bytes, it may have waited for memory.
        if (transfer.doneBytes > 0) began ??= { at: now, bytes: transfer.doneBytes }
        if (now - toldAt < reportMilliseconds) return
        toldAt = now
        this.#tell(began ? withRate(transfer, began, now) : transfer)
      },
      id,
    )
    const over = moved.then(
      (model) => this.#end(arrived(transfer, model), request),
      (thrown) => this.#end(broken(transfer, thrown, this.#running.get(id)?.wish ?? null), request),
    )
    this.#running.set(id, { kind, controller, wish: null, over: over.then(() => void this.#running.delete(id)) })
    return { transfer, over }
  }

  #pausedOf({ kind, request }: TransferWork): string | undefined {
    const id = this.#context.history.transfers.paused(kind, request)
    return id !== undefined && this.#running.has(id) ? undefined : id
  }

  #tell(transfer: Transfer): void {
    this.#context.emit({ name: 'transfer changed', data: { transfer } })
  }

  #keep(transfer: Transfer, request: unknown): Transfer {
    const { history, owner } = this.#context
    if (!history.db.open) return transfer
    history.transfers.save(transfer, request, owner, Date.now())
    this.#tell(transfer)
    return transfer
  }

  /** Stores the outcome, as soon as the history can be written. */
  async #end(transfer: Transfer, request: unknown): Promise<Transfer> {
    const { db, writes } = this.#context.history
    if (!db.open) return transfer
    return writes.write(transfer.id, () => this.#keep(transfer, request)).catch(() => transfer)
  }

  #find(id: string) {
    const known = this.#context.history.transfers.find(id)
    if (!known) throw new EspalierError('not-found', `There is no transfer ${id}.`)
    return known
  }

  #stop(id: string, wish: 'paused' | 'cancelled'): Transfer {
    const { transfer, request } = this.#find(id)
    const work = this.#running.get(id)
    if (!work && transfer.status !== 'paused' && transfer.status !== 'failed')
      throw new EspalierError('conflict', `${transfer.name} is already ${transfer.status}.`)
    if (wish === 'paused' && transfer.kind !== 'download')
      throw new EspalierError('conflict', 'Only downloads can be paused. Cancel it instead.')
    if (work) {
      work.wish = wish
      work.controller.abort(new EspalierError('cancelled', 'Cancelled.'))
    }
    return this.#keep({ ...transfer, status: wish, problem: null, ...stopped }, request)
  }

  async #resume(id: string): Promise<Transfer> {
    const { transfer, request: kept } = this.#find(id)
    const { kind, name, totalBytes, status } = transfer
    await this.#running.get(id)?.over
    const restart = this.#restart.get(kind)
    if (!restart || !['paused', 'failed'].includes(status))
      throw new EspalierError('conflict', `${name} is ${status} and cannot be resumed.`)
    const request = kept as Record<string, unknown>
    return this.begin({ kind, name, totalBytes, request }, restart(request), id).transfer
  }

  /** Closes the transfers of dead processes: downloads become paused, all others failed. */
  closeOrphans(): void {
    for (const { transfer, request } of this.#context.history.transfers.orphans()) {
      const paused = transfer.kind === 'download'
      const problem = paused ? null : 'Espalier was closed before it was complete.'
      this.#keep({ ...transfer, status: paused ? 'paused' : 'failed', problem, ...stopped }, request)
    }
  }

  async close(): Promise<void> {
    for (const work of this.#running.values()) {
      work.wish ??= work.kind === 'download' ? 'paused' : 'cancelled'
      work.controller.abort(new EspalierError('cancelled', 'Cancelled.'))
    }
    await Promise.race([
      Promise.all([...this.#running.values()].map(({ over }) => over)),
      new Promise((resolve) => setTimeout(resolve, closeMilliseconds).unref()),
    ])
  }
}

function arrived(transfer: Transfer, model: string | null): Transfer {
  return { ...transfer, status: 'done', model, doneBytes: transfer.totalBytes ?? transfer.doneBytes, secondsLeft: null }
}

/** The final state of a transfer that ended early, by request or by an error. */
function broken(transfer: Transfer, thrown: unknown, wish: RunningTransfer['wish']): Transfer {
  const { code, message } = toErrorMessage(thrown)
  const status = wish ?? (code === 'cancelled' ? 'cancelled' : 'failed')
  return { ...transfer, status, ...(wish ? { problem: null } : { problem: message, code }), ...stopped }
}

/** When the first bytes of a transfer were reported, in milliseconds, and how many they were. */
interface Begun {
  readonly at: number
  readonly bytes: number
}

function withRate(transfer: Transfer, { at, bytes }: Begun, now: number): Transfer {
  if (transfer.bytesPerSecond !== null || now <= at) return transfer
  const bytesPerSecond = (transfer.doneBytes - bytes) / ((now - at) / 1000)
  const left = transfer.totalBytes === null || bytesPerSecond === 0 ? null : (transfer.totalBytes - transfer.doneBytes) / bytesPerSecond
  return { ...transfer, bytesPerSecond, secondsLeft: left }
}
