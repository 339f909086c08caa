import { performTask } from './engine-tasks.ts'
import { serveCompute } from './serve.ts'
import { version } from '#contract/version.ts'

serveCompute({ version, perform: performTask })
