import type { DivergenceOfRun } from '#contract/comparison/divergence.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { Block } from './blocks.ts'

const cell = { width: 46, height: 13, gap: 3 }

/** The pruned model, one row per block: attention, then the kept share of the MLP. */
export function planPicture(name: string, plan: Plan, neurons: number): Block {
  const rows = plan.blocks.map(({ attention, mlp }, block) => {
    const y = block * (cell.height + cell.gap)
    const share = mlp === 'removed' ? 0 : mlp.kept === 'all' ? 1 : mlp.kept.length / Math.max(1, neurons)
    return [
      `<text x="0" y="${y + 10}" font-size="9" fill="currentColor">${block}</text>`,
      box(22, y, cell.width, attention === 'kept' ? 1 : 0),
      box(22 + cell.width + 8, y, cell.width * 4, share),
    ].join('')
  })
  const gone = plan.blocks.filter(({ attention }) => attention === 'removed').length
  const height = plan.blocks.length * (cell.height + cell.gap)
  return {
    kind: 'picture',
    alternative: `${name}: ${gone} of ${plan.blocks.length} attentions removed; MLP neurons kept by block: ${plan.blocks
      .map(({ mlp }) => (mlp === 'removed' ? 0 : mlp.kept === 'all' ? 'all' : mlp.kept.length))
      .join(', ')}.`,
    svg: picture(22 + cell.width * 5 + 16, height, rows.join('')),
  }
}

function box(x: number, y: number, width: number, share: number): string {
  const frame = `<rect x="${x}" y="${y}" width="${width}" height="${cell.height}" fill="none" stroke="#8a929a" stroke-dasharray="2 2"/>`
  return share > 0
    ? `${frame}<rect x="${x}" y="${y}" width="${(width * share).toFixed(1)}" height="${cell.height}" fill="#3a8757"/>`
    : frame
}

/** Relative error of the stream after each block: where damage starts and where it grows. */
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
