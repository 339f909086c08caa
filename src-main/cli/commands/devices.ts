import { EspalierError } from '#contract/errors.ts'
import { printable, printJson, printTable, showBytes } from './output/print.ts'
import { commonFlags, commonHelp, readFlags } from './read-flags.ts'
import { command } from './run-command.ts'
import { withWorkbench } from './with-workbench.ts'

const help = `espalier devices

Lists every device of this machine with its memory, its driver, and the runtime that uses it, or the reason why none can.
${commonHelp}`

export const devices = command('devices', help, async (given) => {
  const { values } = readFlags(given, commonFlags, { least: 0, most: 0, name: '' })
  const { report, problem } = await withWorkbench(values, ({ call }) => call('engine.get', { probe: true }))
  if (!report) throw new EspalierError('internal', problem ?? 'The devices could not be listed.')
  if (values.json) {
    printJson(report.devices)
    return 0
  }
  printTable(
    ['DEVICE', 'NAME', 'FREE MEMORY', 'TOTAL MEMORY', 'DRIVER', 'RUNTIME', 'REASON'],
    report.devices.map(({ id, title, memoryBytes, totalBytes, driver, usedBy, why }) => [
      id,
      title,
      memoryBytes === null ? null : showBytes(memoryBytes),
      totalBytes === null ? null : showBytes(totalBytes),
      driver,
      usedBy ?? 'none',
      why,
    ]),
  )
  for (const { name, available, why } of report.backends) if (!available) console.log(`\n${name} is not available. ${printable(why)}`)
  return 0
})
