import { stdout } from 'node:process'
import { candidateMeasures, scoreOf } from '#contract/pruning/candidates.ts'
import type { CandidateScore } from '#contract/runs/run.ts'
import type { RunEvent } from '#contract/runs/run-events.ts'

const barWidth = 24

interface Row {
  attention: boolean
  /** Share of the MLP's neurons that are kept. */
  mlpShare: number
}

/** Draws the model map in a terminal: for each block a cell for attention and a bar for the MLP. Redrawn with each decision. */
export class BlockMap {
  readonly #rows: Row[]
  readonly #live = stdout.isTTY === true
  #drawn = 0

  constructor(blocks: number) {
    this.#rows = Array.from({ length: blocks }, () => ({ attention: true, mlpShare: 1 }))
  }

  show(event: RunEvent): void {
    if (event.type === 'width') {
      event.kept.forEach((kept, block) => {
        const row = this.#rows[block]
        if (row) row.mlpShare = kept / event.of
      })
      this.#draw(`MLPs narrowed to ${event.kept[0]} of ${event.of} neurons`)
    }
    if (event.type === 'decision') {
      const { kind, block, scores, round } = event.decision
      const row = this.#rows[block]
      if (row && kind !== 'mlp') row.attention = false
      if (row && kind !== 'attention') row.mlpShare = 0
      const best = scores.find((score) => score.block === block)
      this.#draw(`Round ${round}: ${kind === 'block' ? '' : `${kind} of `}block ${block} removed${best ? `, ${scoreText(best)}` : ''}`)
    }
  }

  /** Leaves the last drawing in place. Without a terminal, prints the map for the first and only time. */
  end(): void {
    if (!this.#live) stdout.write(`${this.#lines().join('\n')}\n`)
    this.#drawn = 0
  }

  #draw(caption: string): void {
    if (!this.#live) {
      stdout.write(`${caption}\n`)
      return
    }
    const lines = [...this.#lines(), caption]
    if (this.#drawn > 0) stdout.write(`\x1b[${this.#drawn}A`)
    stdout.write(lines.map((line) => `\x1b[2K${line}\n`).join(''))
    this.#drawn = lines.length
  }

  #lines(): string[] {
    return this.#rows.map(({ attention, mlpShare }, block) => {
      const filled = Math.round(mlpShare * barWidth)
      return `  block ${String(block).padStart(2)}  attention ${attention ? '■' : '□'}  MLP ${'█'.repeat(filled)}${'░'.repeat(barWidth - filled)} ${Math.round(100 * mlpShare)} %`
    })
  }
}

function scoreText(score: CandidateScore): string {
  const { measure, value } = scoreOf(score)
  return `${candidateMeasures[measure].title} ${measure === 'perplexity' ? value.toFixed(2) : value.toPrecision(4)}`
}
