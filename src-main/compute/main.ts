import { version } from '#contract/version.ts'
import { dieAtLimits } from '#engine/limits/reading.ts'
import { performTask } from './engine-tasks.ts'
import { serveCompute } from './serve.ts'

dieAtLimits()
serveCompute({ version, perform: performTask })
