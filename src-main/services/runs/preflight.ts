import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { type Problem, type RequestPreview, requestPreview } from '#contract/runs/preflight.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { openHub } from '#hub/hub.ts'
import type { Context } from '../context.ts'
import type { PlannedRun } from '../experiments/grid.ts'
import { askDesk } from '../machine/ask-desk.ts'
import { hubOptions } from '../machine/current-settings.ts'
import type { Parts } from '../service.ts'

/**
 * Checks planned runs: what they would remove, and all problems. The only place where requests are checked, from any adapter. Runs that
 * differ only in the seed are checked once.
 */
export async function preflight(parts: Parts, planned: readonly PlannedRun[], signal?: AbortSignal): Promise<RequestPreview[]> {
  const requests = planned.map(({ model, request }) => ({ ...request, model: parts.library.find(model).path, seed: 0 }))
  const distinct = [...new Map(requests.map((request) => [JSON.stringify(request), request])).values()]
  if (distinct.length === 0) return []
  const asked: RunRequest[] = []
  const previews: RequestPreview[] = []
  // One process has one runtime, and a precision is checked with it.
  for (const together of Map.groupBy(distinct, ({ backend }) => backend).values()) {
    const answer = await askDesk(parts.desk, { kind: 'preflight', requests: together }, signal)
    previews.push(...z.array(requestPreview).length(together.length).parse(answer))
    asked.push(...together)
  }
  const unreachable = await checkFetches(parts, previews)
  const found = new Map(
    asked.map((request, at) => {
      const preview = previews[at] as RequestPreview
      const absent = preview.fetches.flatMap((fetch) => unreachable.get(JSON.stringify(fetch.file))?.(fetch) ?? [])
      return [JSON.stringify(request), { ...preview, problems: [...preview.problems, ...absent] }]
    }),
  )
  return requests.map((request) => found.get(JSON.stringify(request)) as RequestPreview)
}

type Fetch = RequestPreview['fetches'][number]

/** Files that are neither in the cache nor on the hub, with the problem of each. */
async function checkFetches(context: Context, previews: readonly RequestPreview[]): Promise<Map<string, (fetch: Fetch) => Problem>> {
  const files = new Map(previews.flatMap(({ fetches }) => fetches.map(({ file }) => [JSON.stringify(file), file] as const)))
  const refusals = new Map<string, (fetch: Fetch) => Problem>()
  if (files.size === 0) return refusals
  const hub = await openHub(hubOptions(context))
  await Promise.all(
    [...files].map(([key, file]) =>
      hub.checkFile(file).catch((thrown: unknown) => {
        if (!(thrown instanceof EspalierError)) throw thrown
        refusals.set(key, ({ field, advice }) => ({ code: thrown.code, field, message: `${thrown.message} ${advice}` }))
      }),
    ),
  )
  return refusals
}

/** Throws the first problem's code with a message that lists all problems; the fields are in the details. */
export function refuseProblems(problems: readonly Problem[]): void {
  const [first] = problems
  if (!first) return
  const sentences = [...new Set(problems.map(({ message }) => message))]
  const rest = sentences.length > 3 ? ` And ${sentences.length - 3} more.` : ''
  throw new EspalierError(first.code, sentences.slice(0, 3).join(' ') + rest, { problems })
}
