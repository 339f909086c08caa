/** A main side that is killed from outside: opens the folder, does what is queued, and prints when it is up. */
import { processorDevice } from '#jobs/devices.ts'
import { openWorkbench } from '#services/workbench.ts'
import { fakeCompute } from '../services/opened.ts'

const [folder, ...command] = process.argv.slice(2)
const workbench = await openWorkbench({
  folder: folder as string,
  computeCommand: command.length > 0 ? (command as [string, ...string[]]) : fakeCompute,
  devices: [processorDevice()],
  bundledModel: null,
})
const { rows } = await workbench.call('runs.query', { conditions: [{ field: 'status', is: 'equal', value: 'interrupted' }] })
if (rows.length > 0) await workbench.call('runs.resume', { ids: rows.map(({ id }) => id) })
console.log('up')
setInterval(() => {}, 1000)
