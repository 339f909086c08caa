import { EspalierError } from '#contract/errors.ts'
import type { JudgingResult } from '#contract/judging/judging.ts'
import type { Transcript } from '#contract/playground/playground.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { isInspection } from '#contract/titles.ts'
import { version } from '#contract/version.ts'
import type { RunRow } from '#db/runs/runs.ts'
import type { Calls, Context } from '../context.ts'
import { hidePlaces } from '../hide-places.ts'
import { optionTitles } from '../machine/catalogue.ts'
import { safeFileName } from '../models/folders.ts'
import { runDetail } from '../runs/run-detail.ts'
import { type Parts, Service } from '../service.ts'
import { type Block, heading, paragraph } from './blocks.ts'
import {
  answersSection,
  askedSection,
  comparisonSection,
  divergenceSection,
  environmentSection,
  flipsSection,
  judgingSection,
  mapsSection,
  resultSection,
  transcriptSection,
  worthSection,
} from './sections.ts'
import { toHtml, toMarkdown } from './write-blocks.ts'

type OtherCalls = Pick<Calls<'compare'> & Calls<'judgings'>, 'compare.get' | 'judgings.result'>

/** Makes one document of an experiment or of several runs, with all their results. */
export class ReportsService extends Service {
  readonly #others: OtherCalls

  readonly calls: Calls<'reports'> = {
    'reports.make': async ({ experiment, runs: ids, title, format, overSeeds, paths }) => {
      const { name, notes, rows } = subjectOf(this.parts, experiment, ids)
      const report = await reportOf(this.parts, this.#others, { title: title ?? name, notes, rows, overSeeds, paths })
      const fileName = `${safeFileName(report.title)}.${format === 'html' ? 'html' : 'md'}`
      return format === 'html'
        ? { fileName, type: 'text/html', content: toHtml(report.title, report.blocks) }
        : { fileName, type: 'text/markdown', content: toMarkdown(report.blocks) }
    },
  }

  constructor(parts: Parts, others: OtherCalls) {
    super(parts)
    this.#others = others
  }
}

interface Subject {
  name: string
  notes: string
  rows: RunRow[]
}

function subjectOf({ history }: Context, experiment: string | undefined, ids: readonly string[] | undefined): Subject {
  if (experiment !== undefined) {
    const { name, notes } = history.experiments.get(experiment)
    return { name, notes, rows: history.runs.ofExperiment(experiment) }
  }
  if (!ids) throw new EspalierError('invalid', 'A report needs an experiment or some runs. Give one or the other.')
  const rows = ids.map((id) => history.runs.get(id))
  return { name: rows.length === 1 ? `Run ${rows[0]?.name}` : `Comparison of ${rows.length} runs`, notes: '', rows }
}

async function reportOf(
  context: Context,
  others: OtherCalls,
  { rows, overSeeds, paths, ...named }: Omit<Subject, 'name'> & { title: string; overSeeds: boolean; paths: boolean },
): Promise<{ title: string; blocks: Block[] }> {
  const known = rows.map((row) => runDetail(context, row))
  const compared = known.filter(({ method, status, hasPlan }) => !isInspection(method) && status === 'done' && hasPlan)
  const inspected = inspectionsOf(context, known)
  const documents = {
    ...named,
    details: known,
    inspections: inspected,
    answers: await answersOf(context, others, inspected),
    comparison: await others['compare.get']({ ids: compared.map(({ id }) => id) }),
  }
  const { title, notes, details, inspections, answers, comparison } = paths ? documents : hidePlaces(documents)
  const runs = details.filter(({ method, status }) => !isInspection(method) && status === 'done')
  if (runs.length === 0)
    throw new EspalierError('conflict', `"${title}" has no finished run yet. Create the report when its runs are done.`)
  const blocks = [
    heading(1, title),
    paragraph(`Made by Espalier ${version} on ${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC.`),
    ...(notes ? [paragraph(notes)] : []),
    ...resultSection(comparison),
    ...(await worthSection(comparison)),
    ...(await comparisonSection(comparison, overSeeds, await optionTitles(context))),
    ...askedSection(details.filter(({ method }) => !isInspection(method))),
    ...mapsSection(runs),
    ...flipsSection(comparison),
    ...inspectedSections(inspections, answers),
    ...answersSection(runs),
    ...environmentSection([...runs, ...inspections], paths),
  ]
  return { title, blocks }
}

/** Returns the finished inspections among the runs, and those that inspect one of the runs. Each occurs once, oldest first. */
function inspectionsOf(context: Context, details: readonly RunDetail[]): RunDetail[] {
  const { history } = context
  const inspecting = new Set(details.flatMap(({ id }) => history.runs.inspecting(id)))
  const ids = new Set(history.runs.entries([...inspecting]).map(({ id }) => id))
  for (const { id, method } of details) if (isInspection(method)) ids.add(id)
  return [...ids]
    .flatMap((id) => history.runs.find(id) ?? [])
    .filter(({ status }) => status === 'done')
    .sort((a, b) => a.number - b.number)
    .map((row) => runDetail(context, row))
}

/** A transcript that a run wrote, with the results of blind judgings of its answers. */
interface Answers {
  transcript: Transcript
  judged: JudgingResult[]
}

async function answersOf({ history }: Context, others: OtherCalls, runs: readonly RunDetail[]): Promise<Answers[]> {
  const found: Answers[] = []
  for (const { inspected } of runs) {
    const transcript = inspected?.kind === 'generation' ? history.transcripts.find(inspected.transcript) : undefined
    if (!transcript) continue
    const judgings = history.judgings.list().filter((one) => one.transcript === transcript.id && one.votes > 0)
    found.push({ transcript, judged: await Promise.all(judgings.map(({ id }) => others['judgings.result']({ id }))) })
  }
  return found
}

function inspectedSections(runs: readonly RunDetail[], answers: readonly Answers[]): Block[] {
  return runs.flatMap(({ name, inspected }) => {
    if (inspected?.kind === 'divergence') return divergenceSection(name, inspected)
    if (inspected?.kind !== 'generation') return []
    const found = answers.find(({ transcript }) => transcript.id === inspected.transcript)
    return found ? [...transcriptSection(name, inspected, found.transcript), ...found.judged.flatMap(judgingSection)] : []
  })
}
