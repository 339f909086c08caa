import { formatNumber } from '#contract/comparison/cell-text.ts'
import type { DivergenceOfRun } from '#contract/inspection/divergence.ts'
import type { Inspected } from '#contract/inspection/inspected.ts'
import { divergenceNumbers, divergenceTitles } from '#contract/titles.ts'
import { type Block, estimated, heading, paragraph, percent, tableBlock } from './blocks.ts'
import { damagePicture } from './pictures.ts'

const mostWorst = 10

/** Shows how far runs are from the dense model: in total, by kind of token, by block, and at the worst tokens. */
export function divergenceSection(name: string, { divergence }: Extract<Inspected, { kind: 'divergence' }>): Block[] {
  const { runs, tokens, dense, data } = divergence
  const rows = [
    ...divergenceNumbers.map((key) => [divergenceTitles[key], ...runs.map(({ numbers }) => estimated(numbers[key]))]),
    ['Largest divergence', ...runs.map(({ numbers }) => formatNumber(numbers.largest))],
  ]
  return [
    heading(2, name),
    paragraph(
      `Compared with the dense model, token by token, on ${tokens} tokens of ${data.source} (${data.windows} windows of ${data.sequenceLength}, SHA-256 ${data.hash.slice(0, 12)}). The dense model’s perplexity there is ${estimated(dense.perplexity)}. Divergences are Kullback-Leibler, in nats, as llama.cpp defines these numbers; ± is one standard error.`,
    ),
    tableBlock(['Measure', ...runs.map(({ run }) => run.name)], rows, 'Divergence from the dense model'),
    ...groupsTable(runs),
    ...damageOf(runs),
    ...runs.flatMap(worstPlaces),
  ]
}

function damageOf(runs: readonly DivergenceOfRun[]): Block[] {
  const groups = runs.flatMap((run) => {
    const picture = damagePicture(run)
    return picture ? [[heading(3, run.run.name), picture]] : []
  })
  if (groups.length === 0) return []
  return [heading(3, 'Damage by block'), paragraph('Relative error of the stream after each block.'), { kind: 'beside', groups }]
}

function groupsTable(runs: readonly DivergenceOfRun[]): Block[] {
  const [first] = runs
  if (!first) return []
  const rows = first.groups.map(({ by, group, tokens }, at) => [
    by,
    group,
    tokens,
    ...runs.map(({ groups }) => {
      const own = groups[at]
      return own ? `${estimated(own.divergence)}, same ${percent(own.sameTop.value)}` : null
    }),
  ])
  return [
    heading(3, 'By kind of token, script and position'),
    tableBlock(
      ['By', 'Group', 'Tokens', ...runs.map(({ run }) => run.name)],
      rows,
      'Mean divergence, and the share of tokens with the same likeliest token',
    ),
  ]
}

function worstPlaces({ run, worst }: DivergenceOfRun): Block[] {
  if (worst.length === 0) return []
  return [
    heading(3, `${run.name}: worst places`),
    ...worst.slice(0, mostWorst).map((place): Block => {
      const { before, text, divergence, expected, likeliest } = place
      return {
        kind: 'place',
        before,
        marked: text,
        note: `divergence ${formatNumber(divergence)}; the dense model expects “${expected}”, this one “${likeliest}”`,
      }
    }),
  ]
}
