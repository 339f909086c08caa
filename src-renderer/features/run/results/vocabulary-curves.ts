import { at } from '#contract/at.ts'
import type { Plot } from '#contract/comparison/plot.ts'
import type { TokenRanking } from '#contract/pruning/token-ranking.ts'

/** The share of each chosen text's tokens that a number of rows covers, and the size of the model as a share of all rows' size. */
export function coveragePlot({ texts, points }: TokenRanking, chosen: readonly string[]): Plot {
  const largest = points.at(-1)?.bytes ?? 1
  return {
    title: 'Coverage by rows of the vocabulary',
    x: { label: 'Rows kept', scale: 'log' },
    y: { label: '% of tokens, and of the size', scale: 'linear' },
    series: [
      ...texts.flatMap(({ name }, text) =>
        chosen.includes(name) ? [{ name, points: points.map(({ rows, covered }) => ({ x: rows, y: 100 * at(covered, text) })) }] : [],
      ),
      { name: 'size of the model', points: points.map(({ rows, bytes }) => ({ x: rows, y: (100 * bytes) / largest })) },
    ],
  }
}

/** The texts with the share that a point covers, the best covered first. The text that ranked the rows stays at the top. */
export function coverageRows({ texts, points }: TokenRanking, point: number): { name: string; covered: number }[] {
  const [first, ...others] = texts.map(({ name }, text) => ({ name, covered: points[point]?.covered[text] ?? 0 }))
  return first ? [first, ...others.sort((a, b) => b.covered - a.covered)] : []
}

/** A piece of a sample, and how many tokens it is: more than one for a character that is written in bytes. */
export interface Piece {
  readonly text: string
  readonly tokens: number
}

/** Cuts a sample where the tokens of a point end. */
export function piecesOf({ text, ends }: TokenRanking['samples'][number], point: number): Piece[] {
  const pieces: Piece[] = []
  let [start, waiting] = [0, 0]
  for (const end of ends[point] ?? []) {
    waiting++
    if (end > start) {
      pieces.push({ text: text.slice(start, end), tokens: waiting })
      ;[start, waiting] = [end, 0]
    } else if (pieces.length > 0) {
      const last = pieces.length - 1
      pieces[last] = { text: at(pieces, last).text, tokens: at(pieces, last).tokens + waiting }
      waiting = 0
    }
  }
  return pieces
}
