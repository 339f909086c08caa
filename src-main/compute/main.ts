import { version } from '#contract/version.ts'
import { clearScratchFolders } from '#engine/checkpoint/scratch-folder.ts'
import { dieAtLimits } from '#engine/limits/reading.ts'
import { performTask } from './engine-tasks.ts'
import { serveCompute } from './serve.ts'

dieAtLimits()
void clearScratchFolders()
serveCompute({ version, perform: performTask })
