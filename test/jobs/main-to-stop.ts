import { processorDevice } from '#jobs/this-machine.ts'
import { openWorkbench } from '#services/workbench.ts'

/** A main process that is stopped as a computer that sleeps does: it opens the folder and works on its queue, and is impatient with silence. */

const [folder, ...command] = process.argv.slice(2)
await openWorkbench({
  folder: folder as string,
  computeCommand: command as [string, ...string[]],
  devices: [processorDevice()],
  bundledModel: null,
  timings: { silenceMilliseconds: 4000, stoppedMilliseconds: 2500 },
})
console.log('up')
