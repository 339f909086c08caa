import { toErrorMessage } from '#contract/errors.ts'
import { jobs } from './llama-jobs.ts'

type Job = (...parameters: readonly unknown[]) => unknown

// This process holds llama.cpp and runs one job after another. A failed assertion inside the library ends only this process.
process.on('message', ({ name, parameters }: { name: keyof typeof jobs; parameters: unknown[] }) => {
  try {
    process.send?.({ answer: (jobs[name] as Job)(...parameters) ?? null })
  } catch (thrown) {
    process.send?.({ error: toErrorMessage(thrown) })
  }
})
process.on('disconnect', () => process.exit(0))
