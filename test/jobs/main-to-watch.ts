import { processorDevice } from '#jobs/this-machine.ts'
import { openWorkbench } from '#services/workbench.ts'

/** A main process to be killed from outside: it opens the folder, only works on its queue, and prints when a run is running. */

const [folder, ...command] = process.argv.slice(2)
const { call } = await openWorkbench({
  folder: folder as string,
  computeCommand: command as [string, ...string[]],
  devices: [processorDevice()],
  bundledModel: null,
})
setInterval(async () => {
  const { runs } = await call('queue.get', {})
  if (runs.some(({ status }) => status === 'running')) console.log('running')
}, 20)
