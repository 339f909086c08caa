import { version } from '#contract/version.ts'
import { performTask } from './engine-tasks.ts'
import { serveCompute } from './serve.ts'

serveCompute({ version, perform: performTask })
