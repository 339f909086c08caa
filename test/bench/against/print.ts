import type { MethodReport } from './compare.ts'

const seconds = (value: number) => `${value.toFixed(1)} s`
const mebibytes = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`
const counts = (passes: MethodReport['passes']) => (passes ? `${passes.attention}/${passes.mlp}/${passes.head}` : '')

/** The table of the comparison, ready for a README. `compared` are our precisions and PyTorch's, in the order of a method's reports. */
export function printReports(reports: readonly MethodReport[], compared: readonly (readonly [string, string])[]): void {
  const rows = reports.map((report, index) => {
    const expected = counts(report.expectedPasses)
    const passes = counts(report.passes)
    return [
      report.method,
      ...(compared[index % compared.length] as readonly [string, string]),
      seconds(report.reference),
      seconds(report.ours),
      `${report.ratio.toFixed(2)} (${report.spread.map((ratio) => ratio.toFixed(2)).join('-')})`,
      report.selectionsEqual ? 'equal' : 'DIFFERENT',
      expected && expected !== passes ? `${passes}, formula ${expected}` : passes,
      mebibytes(report.peakBytes),
    ]
  })
  const ends = ['PyTorch', 'Espalier', 'ratio (over steps)', 'selections', 'passes attention/MLP/head', 'peak memory']
  const header = ['method', 'precision', "PyTorch's", ...ends]
  for (const row of [header, header.map(() => '---'), ...rows]) console.log(`| ${row.join(' | ')} |`)
}

/** What the table leaves out: stages, memory, and the share of the bare product's rate. */
export function printNotes(reports: readonly MethodReport[]): void {
  for (const report of reports) {
    if (report.rescored.length > 0)
      console.log(`${report.method}: scored again with the accuracy of float32, round by round: ${report.rescored.join(', ')}`)
    if (report.share === undefined) continue
    const [first, ...rounds] = report.steps
    const total = (side: 'ours' | 'reference') => rounds.reduce((sum, step) => sum + step[side], 0)
    if (first)
      console.log(
        `${report.method}: stage 1 ${(first.reference / first.ours).toFixed(2)} times, stage 2 ${(total('reference') / total('ours')).toFixed(2)} times as fast`,
      )
    console.log(
      `Products over stage 1: ${(100 * report.share).toFixed(0)} % of ${report.rate.toFixed(0)} GFLOP/s, the rate of a bare 2048-cubed one`,
    )
    console.log(
      `Peak memory ${mebibytes(report.peakBytes)}; 1.2 times the weights plus 700 MB is ${mebibytes(1.2 * report.weightBytes + 7e8)}`,
    )
  }
}
