import type { Transfer } from '#contract/models/models.ts'
import { fromJson, Table } from './table.ts'

interface StoredTransfer {
  transfer: Transfer
  request: unknown
}

/** Transfers, each with the request that can restart it. */
export class TransfersTable extends Table {
  readonly #save: (id: string, transfer: Transfer, request: string, owner: string | null, at: number) => void = this.run(
    'INSERT OR REPLACE INTO transfers(id, transfer, request, owner, changed_at) VALUES (?, ?, ?, ?, ?)',
  )
  /** Only the newest are listed. A download that was paused is found by its request, however old it is. */
  readonly #forgetOld: () => void = this.run(
    "DELETE FROM transfers WHERE transfer ->> 'status' IN ('done', 'failed', 'cancelled') AND id NOT IN (SELECT id FROM transfers ORDER BY changed_at DESC LIMIT 100)",
  )
  readonly #paused: (request: string, kind: Transfer['kind']) => string | undefined = this.first(
    "SELECT id FROM transfers WHERE request = ? AND transfer ->> 'kind' = ? AND transfer ->> 'status' = 'paused' ORDER BY changed_at DESC LIMIT 1",
  )

  readonly list: () => Transfer[] = this.all('SELECT transfer FROM transfers ORDER BY changed_at DESC LIMIT 100', fromJson<Transfer>)
  readonly find: (id: string) => StoredTransfer | undefined = this.first('SELECT transfer, request FROM transfers WHERE id = ?', parse)
  /** Returns the unfinished transfers of dead processes. */
  readonly orphans: () => StoredTransfer[] = this.all(
    "SELECT transfer, request FROM transfers WHERE transfer ->> 'status' IN ('running', 'waiting') AND (owner IS NULL OR owner NOT IN (SELECT id FROM owners))",
    parse,
  )

  save(transfer: Transfer, request: unknown, owner: string | null, at: number): void {
    this.#save(transfer.id, transfer, JSON.stringify(request), owner, at)
    if (transfer.status === 'done') this.#forgetOld()
  }

  /** Returns the id of the transfer for this request that was paused last. */
  paused(kind: Transfer['kind'], request: unknown): string | undefined {
    return this.#paused(JSON.stringify(request), kind)
  }
}

function parse({ transfer, request }: { transfer: string; request: string }): StoredTransfer {
  return { transfer: JSON.parse(transfer) as Transfer, request: JSON.parse(request) }
}
