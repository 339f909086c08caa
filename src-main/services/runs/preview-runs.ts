import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { type Problem, type RequestPreview, requestPreview } from '#contract/runs/request-preview.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { plural } from '#contract/words.ts'
import { openHub } from '#hub/hub.ts'
import { shareOfSlot } from '#jobs/this-machine.ts'
import type { Context } from '../context.ts'
import type { PlannedRun } from '../experiments/grid.ts'
import { askDesk } from '../machine/ask-desk.ts'
import { currentSettings, hubOptions } from '../machine/current-settings.ts'
import type { Parts } from '../service.ts'

/** The memory that the setting leaves a run on this machine. Any run may go to a GPU, whose memory the setting does not limit. */
function limitHere(parts: Parts): Pick<RunRequest, 'memoryBytes'> {
  const { memoryBytes } = currentSettings(parts)
  const { devices } = parts.queue.state()
  const bounded = devices.length > 0 && devices.every(({ kind }) => kind === 'cpu')
  return memoryBytes !== null && bounded ? { memoryBytes: shareOfSlot(memoryBytes, devices) } : {}
}

/**
 * Checks planned runs, and returns what each would remove and all of its problems. Every request is checked here, whether it comes from a
 * screen, a server or the command line. Runs that differ only in the seed are checked once.
 * @param executor the cluster that computes them; by default this machine
 */
export async function previewRuns(
  parts: Parts,
  planned: readonly PlannedRun[],
  { signal, executor = null }: { readonly signal?: AbortSignal | undefined; readonly executor?: string | null | undefined } = {},
): Promise<RequestPreview[]> {
  const limit = executor === null ? limitHere(parts) : {}
  const requests = planned.map(({ model, request }) => ({ ...limit, ...request, model: parts.library.find(model).path, seed: 0 }))
  const distinct = [...new Map(requests.map((request) => [JSON.stringify(request), request])).values()]
  if (distinct.length === 0) return []
  const checked: RunRequest[] = []
  const previews: RequestPreview[] = []
  // Requests are checked by backend, because a process has one runtime at a time and precisions are checked against it.
  for (const group of Map.groupBy(distinct, ({ backend }) => backend).values()) {
    const answer = await askDesk(parts.desk, { kind: 'check requests', requests: group }, signal)
    previews.push(...z.array(requestPreview).length(group.length).parse(answer))
    checked.push(...group)
  }
  const unreachable = await checkFetches(parts, previews)
  const found = new Map(
    checked.map((request, index) => {
      const preview = previews[index] as RequestPreview
      const absent = preview.fetches.flatMap((fetch) => unreachable.get(JSON.stringify(fetch.file))?.(fetch) ?? [])
      return [JSON.stringify(request), { ...preview, problems: [...preview.problems, ...absent] }]
    }),
  )
  return requests.map((request) => found.get(JSON.stringify(request)) as RequestPreview)
}

type Fetch = RequestPreview['fetches'][number]

/** Finds the files that are neither in the cache nor on the hub. For each, the result has a function that words the problem. */
async function checkFetches(context: Context, previews: readonly RequestPreview[]): Promise<Map<string, (fetch: Fetch) => Problem>> {
  const files = new Map(previews.flatMap(({ fetches }) => fetches.map(({ file }) => [JSON.stringify(file), file] as const)))
  const refusals = new Map<string, (fetch: Fetch) => Problem>()
  if (files.size === 0) return refusals
  const hub = await openHub(hubOptions(context))
  await Promise.all(
    [...files].map(([key, file]) =>
      hub.checkFile(file).catch((thrown: unknown) => {
        if (!(thrown instanceof EspalierError)) throw thrown
        const absentOf = ({ of }: Fetch) => (thrown.code === 'unreachable' ? { absent: of } : {})
        refusals.set(key, (fetch) => ({
          code: thrown.code,
          field: fetch.field,
          message: `${thrown.message} ${fetch.advice}`,
          ...absentOf(fetch),
        }))
      }),
    ),
  )
  return refusals
}

/** Throws if there are problems. The error has the first one's code and up to three messages; its details list all problems. */
export function refuseProblems(problems: readonly Problem[]): void {
  const [first] = problems
  if (!first) return
  const sentences = [...new Set(problems.map(({ message }) => message))]
  const rest = sentences.length > 3 ? ` And ${plural(sentences.length - 3, 'more problem')}.` : ''
  throw new EspalierError(first.code, sentences.slice(0, 3).join(' ') + rest, { problems })
}
