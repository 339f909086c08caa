import { processorDevice } from '#jobs/this-machine.ts'
import { openWorkbench } from '#services/workbench.ts'

/** A main process for tests to kill: it opens the folder, resumes interrupted runs, and prints when it is up. */

const [folder, ...command] = process.argv.slice(2)
const { call } = await openWorkbench({
  folder: folder as string,
  computeCommand: command as [string, ...string[]],
  devices: [processorDevice()],
  bundledModel: null,
})
await call('queue.resume', {})
const { rows } = await call('runs.query', { sort: [{ field: 'createdAt', direction: 'descending' }], limit: 1 })
const [last] = rows
if (last?.status === 'interrupted') await call('runs.resume', { ids: [last.id] })
if (last?.status === 'done') await call('runs.retry', { ids: [last.id] })
console.log('up')
setInterval(() => {}, 1000)
