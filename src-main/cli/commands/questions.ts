import { probabilityText } from '#contract/comparison/cell-text.ts'
import { printable, printJson, printTable, showPercent } from './output/print.ts'
import { commonFlags, commonHelp, readCount, readFlags } from './read-flags.ts'
import { command } from './run-command.ts'
import { withWorkbench } from './with-workbench.ts'

const help = `espalier questions RUN OTHER [--task NAME] [--limit N]

Compares how two runs answer the same zero-shot questions: accuracies, flips in both directions, McNemar's exact test, a 95 % interval
of the difference by a paired bootstrap, and the flipped questions, largest change in scores first.

  --task NAME          only the flipped questions of this task
  --limit N            at most this many flipped questions (default 20, up to 1000)
${commonHelp}`

const flags = { ...commonFlags, task: { type: 'string' }, limit: { type: 'string', default: '20' } } as const

export const questions = command('questions', help, async (given) => {
  const { values, words } = readFlags(given, flags, { least: 2, most: 2, name: 'The ids of two runs' })
  const [first = '', second = ''] = words
  const limit = readCount(values.limit, '--limit', 1000)
  const task = values.task === undefined ? {} : { task: values.task }
  const found = await withWorkbench(values, ({ call }) => call('compare.questions', { first, second, limit, ...task }))
  if (values.json) {
    printJson(found)
    return 0
  }
  printTable(
    ['TASK', 'MEASURE', 'QUESTIONS', 'FIRST', 'SECOND', 'BECAME RIGHT', 'BECAME WRONG', 'P', 'DIFFERENCE (95 %)'],
    found.tasks.map((one) => [
      one.task,
      one.measure,
      one.questions,
      showPercent(one.first.value),
      showPercent(one.second.value),
      one.gained,
      one.lost,
      probabilityText(one.probability),
      `${showPercent(one.interval.low)} to ${showPercent(one.interval.high)}`,
    ]),
  )
  for (const { task: name, number, direction, first: before, second: after } of found.flipped) {
    console.log(
      `\n${name} ${number + 1}, ${direction === 'gained' ? 'became right' : 'became wrong'}: ${printable(before.context.slice(-300))}`,
    )
    for (const [choice, text] of before.choices.entries()) {
      const scores = [before, after].map(({ scores: all }) => (all[choice] ?? 0).toFixed(2).padStart(8)).join(' ')
      console.log(`  ${choice === before.gold ? '*' : ' '} ${scores}  ${printable(text)}`)
    }
  }
  return 0
})
