import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import type { Transfer } from '#contract/models.ts'
import { newId } from '#db/ids.ts'
import type { Context, Service } from './context.ts'

const toldMilliseconds = 200
/** How long closing waits for a file system or a server that does not let go. */
const closeMilliseconds = 3000

interface RunningTransfer {
  kind: Transfer['kind']
  controller: AbortController
  wish: 'paused' | 'cancelled' | null
  over: Promise<void>
}

export interface TransferWork {
  kind: Transfer['kind']
  name: string
  totalBytes: number | null
  /** What is needed to do it again after a restart; the `resume` of its kind gets it. */
  request: Record<string, unknown>
}

/** Moves the files; gives the id of the model that came of it. */
export type Move = (
  signal: AbortSignal,
  report: (progress: Partial<Pick<Transfer, 'doneBytes' | 'totalBytes' | 'bytesPerSecond' | 'secondsLeft'>>) => void,
) => Promise<string | null>

export type Transfers = ReturnType<typeof transfersService>

/** Downloads, copies and exports: told as they go, kept over a restart, paused and cancelled by a signal. */
export function transfersService({ history, owner, emit }: Pick<Context, 'history' | 'owner' | 'emit'>) {
  const running = new Map<string, RunningTransfer>()
  const restart = new Map<string, (request: Record<string, unknown>) => Move>()

  function keep(transfer: Transfer, request: unknown): Transfer {
    if (!history.db.open) return transfer
    history.transfers.save(transfer, request, owner, Date.now())
    emit({ name: 'transfer changed', data: { transfer } })
    return transfer
  }

  function begin(work: TransferWork, move: Move, id: string = newId('move')): { transfer: Transfer; over: Promise<Transfer> } {
    let transfer: Transfer = {
      id,
      kind: work.kind,
      name: work.name,
      status: 'running',
      doneBytes: 0,
      totalBytes: work.totalBytes,
      bytesPerSecond: null,
      secondsLeft: null,
      model: null,
      problem: null,
    }
    const controller = new AbortController()
    const started = Date.now()
    let toldAt = 0
    keep(transfer, work.request)
    const moved = move(controller.signal, (progress) => {
      transfer = { ...transfer, ...progress }
      if (Date.now() - toldAt < toldMilliseconds) return
      toldAt = Date.now()
      emit({ name: 'transfer changed', data: { transfer: withRate(transfer, started) } })
    })
    const over = moved.then(
      (model) =>
        keep({ ...transfer, status: 'done', model, doneBytes: transfer.totalBytes ?? transfer.doneBytes, secondsLeft: null }, work.request),
      (thrown) => {
        const wish = running.get(id)?.wish
        const { code, message } = toErrorMessage(thrown)
        return keep(
          {
            ...transfer,
            status: wish ?? (code === 'cancelled' ? 'cancelled' : 'failed'),
            problem: wish ? null : message,
            bytesPerSecond: null,
            secondsLeft: null,
          },
          work.request,
        )
      },
    )
    running.set(id, { kind: work.kind, controller, wish: null, over: over.then(() => void running.delete(id)) })
    return { transfer, over }
  }

  function stop(id: string, wish: 'paused' | 'cancelled'): Transfer {
    const known = history.transfers.find(id)
    if (!known) throw new EspalierError('not-found', `There is no transfer ${id}.`)
    const work = running.get(id)
    if (!work && known.transfer.status !== 'paused' && known.transfer.status !== 'failed')
      throw new EspalierError('conflict', `${known.transfer.name} is ${known.transfer.status} already.`)
    if (wish === 'paused' && known.transfer.kind !== 'download')
      throw new EspalierError('conflict', 'Only downloads can be paused. Cancel it instead.')
    if (work) {
      work.wish = wish
      work.controller.abort(new EspalierError('cancelled', 'Cancelled.'))
    }
    return keep({ ...known.transfer, status: wish, problem: null, bytesPerSecond: null, secondsLeft: null }, known.request)
  }

  const calls: Service<'transfers'> = {
    'transfers.list': () => history.transfers.list(),
    'transfers.pause': ({ id }) => stop(id, 'paused'),
    'transfers.cancel': ({ id }) => stop(id, 'cancelled'),
    async 'transfers.resume'({ id }) {
      const known = history.transfers.find(id)
      if (!known) throw new EspalierError('not-found', `There is no transfer ${id}.`)
      await running.get(id)?.over
      const again = restart.get(known.transfer.kind)
      if (!again || !['paused', 'failed'].includes(known.transfer.status))
        throw new EspalierError('conflict', `${known.transfer.name} is ${known.transfer.status} and cannot go on.`)
      const request = known.request as Record<string, unknown>
      return begin(
        { kind: known.transfer.kind, name: known.transfer.name, totalBytes: known.transfer.totalBytes, request },
        again(request),
        id,
      ).transfer
    },
  }

  return {
    calls,
    begin,
    /** Says how a kind of transfer is taken up again. */
    onResume: (kind: Transfer['kind'], again: (request: Record<string, unknown>) => Move) => restart.set(kind, again),
    /** Transfers of a process that is gone did not go on: downloads are paused, the others failed. */
    closeOrphans(): void {
      for (const { transfer, request } of history.transfers.orphans()) {
        if (transfer.status !== 'running' && transfer.status !== 'waiting') continue
        const paused = transfer.kind === 'download'
        keep(
          {
            ...transfer,
            status: paused ? 'paused' : 'failed',
            problem: paused ? null : 'Espalier ended before it was complete.',
            bytesPerSecond: null,
            secondsLeft: null,
          },
          request,
        )
      }
    },
    async close(): Promise<void> {
      for (const work of running.values()) {
        work.wish ??= work.kind === 'download' ? 'paused' : 'cancelled'
        work.controller.abort(new EspalierError('cancelled', 'Cancelled.'))
      }
      await Promise.race([
        Promise.all([...running.values()].map(({ over }) => over)),
        new Promise((resolve) => setTimeout(resolve, closeMilliseconds).unref()),
      ])
    },
  }
}

function withRate(transfer: Transfer, started: number): Transfer {
  if (transfer.bytesPerSecond !== null) return transfer
  const bytesPerSecond = transfer.doneBytes / Math.max(0.001, (Date.now() - started) / 1000)
  const left = transfer.totalBytes === null || bytesPerSecond === 0 ? null : (transfer.totalBytes - transfer.doneBytes) / bytesPerSecond
  return { ...transfer, bytesPerSecond, secondsLeft: left }
}
