import type { DivergenceOfRun } from '#contract/inspection/divergence.ts'
import type { MlpPlan, Plan } from '#contract/pruning/plan.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { plural } from '#contract/words.ts'
import type { Block } from './blocks.ts'

const cell = { width: 46, height: 13, gap: 3 }

type Sizes = NonNullable<RunDetail['modelDescription']>['blocks']

/** Draws the pruned model, one row per block: attention, then the kept share of the MLP, or the experts of a mixture one by one. */
export function planPicture(name: string, plan: Plan, sizes: Sizes): Block {
  const neurons = Math.max(0, ...sizes.map(({ intermediate }) => intermediate))
  const rows = plan.blocks.map(({ attention, mlp }, block) => {
    const y = block * (cell.height + cell.gap)
    const experts = sizes[block]?.experts
    const share = mlp === 'removed' ? 0 : mlp.kept === 'all' ? 1 : mlp.kept.length / Math.max(1, neurons)
    const bar = { x: 22 + cell.width + 8, y, width: cell.width * 4 }
    return [
      `<text x="0" y="${y + 10}" font-size="9" fill="currentColor">${block}</text>`,
      box(22, y, cell.width, attention === 'kept' ? 1 : 0),
      experts === undefined || mlp === 'removed'
        ? box(bar.x, y, bar.width, share)
        : expertBoxes(bar, mlp, experts, sizes[block]?.intermediate),
    ].join('')
  })
  const removed = plan.blocks.filter(({ attention }) => attention === 'removed').length
  const height = plan.blocks.length * (cell.height + cell.gap)
  const [mixtures, dense] = [sizes.some(({ experts }) => experts !== undefined), sizes.some(({ experts }) => experts === undefined)]
  const kept = [
    ...(dense || !mixtures ? [`MLP neurons kept by block: ${keptBy(plan, ({ kept }) => (kept === 'all' ? 'all' : kept.length))}`] : []),
    ...(mixtures ? [`experts kept by block: ${keptBy(plan, ({ experts }) => experts?.length ?? 'all')}`] : []),
  ]
  return {
    kind: 'picture',
    alternative: `${name}: ${removed} of ${plural(plan.blocks.length, 'attention submodule')} removed; ${kept.join('; ')}.`,
    svg: picture(22 + cell.width * 5 + 16, height, rows.join('')),
  }
}

type KeptMlp = Exclude<MlpPlan, 'removed'>

const keptBy = (plan: Plan, count: (mlp: KeptMlp) => number | string): string =>
  plan.blocks.map(({ mlp }) => (mlp === 'removed' ? 0 : count(mlp))).join(', ')

/** Draws experts side by side. A kept one is as high as its share of kept neurons, a constant is a line, and a removed one is empty. */
function expertBoxes({ x, y, width }: { x: number; y: number; width: number }, mlp: KeptMlp, count: number, neurons = 0): string {
  const step = width / count
  const height = cell.height * (mlp.keptByExpert?.[0] && neurons > 0 ? mlp.keptByExpert[0].length / neurons : 1)
  const bar = (expert: number, top: number, high: number) =>
    `<rect x="${(x + expert * step).toFixed(1)}" y="${top.toFixed(1)}" width="${Math.max(0.5, step - 1).toFixed(1)}" height="${high.toFixed(1)}" fill="#3a8757"/>`
  const kept = mlp.experts ?? Array.from({ length: count }, (_, expert) => expert)
  return [
    box(x, y, width, 0),
    ...kept.map((expert) => bar(expert, y + cell.height - height, height)),
    ...(mlp.constants ?? []).map((expert) => bar(expert, y + cell.height / 2 - 1, 2)),
  ].join('')
}

function box(x: number, y: number, width: number, share: number): string {
  const frame = `<rect x="${x}" y="${y}" width="${width}" height="${cell.height}" fill="none" stroke="#8a929a" stroke-dasharray="2 2"/>`
  return share > 0
    ? `${frame}<rect x="${x}" y="${y}" width="${(width * share).toFixed(1)}" height="${cell.height}" fill="#3a8757"/>`
    : frame
}

/** Draws the relative error of the stream after each block, which shows where damage starts and where it grows. */
export function damagePicture({ run, blocks }: DivergenceOfRun): Block | undefined {
  if (!blocks) return undefined
  const most = Math.max(1e-9, ...blocks.map(({ stream }) => stream.error))
  const rows = blocks.map(({ stream }, block) => {
    const y = block * (cell.height + cell.gap)
    const length = ((stream.error / most) * 220).toFixed(1)
    return `<text x="0" y="${y + 10}" font-size="9" fill="currentColor">${block}</text><rect x="22" y="${y}" width="${length}" height="${cell.height}" fill="#b04a15"/><text x="${28 + Number(length)}" y="${y + 10}" font-size="9" fill="currentColor">${stream.error.toFixed(3)}</text>`
  })
  return {
    kind: 'picture',
    alternative: `${run.name}: relative error of the stream after each block: ${blocks.map(({ stream }) => stream.error.toFixed(3)).join(', ')}.`,
    svg: picture(290, blocks.length * (cell.height + cell.gap), rows.join('')),
  }
}

function picture(width: number, height: number, content: string): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif">${content}</svg>`
}
