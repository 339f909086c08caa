import type { History } from '#db/history.ts'
import type { Context } from './context.ts'
import type { Estimates } from './experiments/estimates.ts'
import type { Library } from './models/library.ts'
import type { Transfers } from './models/transfers.ts'
import type { BulkActions } from './runs/bulk-actions.ts'
import type { RunRemoval } from './runs/run-removal.ts'

/** What services share: the context, and the parts that several of them use. */
export interface Parts extends Context {
  library: Library
  transfers: Transfers
  estimates: Estimates
  bulk: BulkActions
  removal: RunRemoval
}

/** The calls of one topic. `calls` maps each name to a short function; longer code goes into private methods. */
export abstract class Service {
  protected readonly parts: Parts
  protected readonly history: History

  constructor(parts: Parts) {
    this.parts = parts
    this.history = parts.history
  }
}
