import type { RunDescription } from '#contract/runs/runs.ts'
import { call } from '../api/api.ts'
import { formatPlural } from './format.ts'
import { notify } from './notices.svelte.ts'
import { replay } from './replay.svelte.ts'
import { router } from './router.svelte.ts'

/** Imports an exported experiment and opens it, or asks whether to reproduce a described run. */
export async function importFile(content: string): Promise<void> {
  const description = readDescription(content)
  if (description) {
    await replay.ask(description)
    return
  }
  const { experiment, runs } = await call('experiments.import', { content })
  notify(`${formatPlural(runs, 'run')} imported`)
  router.go(['experiments', experiment.id])
}

/** Parses the description of a run; null if the text is none. The service checks its contents. */
export function readDescription(content: string): RunDescription | null {
  if (content.length > 5_000_000) return null
  try {
    const value: unknown = JSON.parse(content)
    return typeof value === 'object' && value !== null && 'format' in value && value.format === 'espalier run'
      ? (value as RunDescription)
      : null
  } catch {
    return null
  }
}
