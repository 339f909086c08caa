import type { Transfer } from '#contract/models/models.ts'
import type { Database } from './database.ts'

/** Transfers, with everything needed to restart them. */
export function transfersTable(db: Database) {
  const save = db.prepare('INSERT OR REPLACE INTO transfers(id, transfer, request, owner, changed_at) VALUES (?, ?, ?, ?, ?)')
  const list = db.prepare('SELECT transfer FROM transfers ORDER BY changed_at DESC LIMIT 100').pluck()
  const find = db.prepare('SELECT transfer, request FROM transfers WHERE id = ?')
  const paused = db
    .prepare(
      "SELECT id FROM transfers WHERE request = ? AND transfer ->> 'kind' = ? AND transfer ->> 'status' = 'paused' ORDER BY changed_at DESC LIMIT 1",
    )
    .pluck()
  const orphans = db.prepare('SELECT transfer, request FROM transfers WHERE owner IS NULL OR owner NOT IN (SELECT id FROM owners)')
  const parse = (row: { transfer: string; request: string }) => ({
    transfer: JSON.parse(row.transfer) as Transfer,
    request: JSON.parse(row.request) as unknown,
  })
  return {
    save: (transfer: Transfer, request: unknown, owner: string | null, at: number) =>
      save.run(transfer.id, JSON.stringify(transfer), JSON.stringify(request), owner, at),
    list: () => (list.all() as string[]).map((text) => JSON.parse(text) as Transfer),
    find(id: string) {
      const row = find.get(id) as { transfer: string; request: string } | undefined
      return row && parse(row)
    },
    /** The id of the transfer of this request that was paused last. */
    paused: (kind: Transfer['kind'], request: unknown) => paused.get(JSON.stringify(request), kind) as string | undefined,
    orphans: () => (orphans.all() as { transfer: string; request: string }[]).map(parse),
  }
}
