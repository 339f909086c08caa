import { readdir } from 'node:fs/promises'
import { windowsText } from '#contract/data/used-data.ts'
import type { ExportedRun, ExportedTexts } from '#contract/exports/exports.ts'
import { markdownLine } from '#contract/markdown.ts'
import type { MlpPlan } from '#contract/pruning/plan.ts'
import { denseMethod, weightText } from '#contract/titles.ts'
import { plural } from '#contract/words.ts'
import { type BlockLayout, layoutOf } from '#engine/architectures/spec.ts'
import { exists, readText } from '#engine/checkpoint/regular-file.ts'
import type { Model } from '#engine/model/model.ts'
import { keptExperts } from '#engine/model/views/kept-experts.ts'
import { removedText } from '#engine/pruning/plan.ts'
import { rank } from '#engine/pruning/recovery/low-rank.ts'
import { resolveInside } from '#runtime/resolve-inside.ts'
import type { Described, ExportRequest } from './format.ts'

/** The entries of the dense model's card that also apply to the pruned model. */
interface ParentCard {
  readonly license?: string
  readonly licenseName?: string
  readonly licenseLink?: string
}

const fields = { license: 'license', license_name: 'licenseName', license_link: 'licenseLink' } as const

/** Reads the licence from the front matter of a model's card, if it has one. */
export async function readParentCard({ path }: Pick<Model, 'path'>): Promise<ParentCard> {
  const name = (await readdir(path).catch(() => [])).find((file) => /^readme\.md$/i.test(file))
  const file = name && (await resolveInside(path, name))
  if (!file || !(await exists(file))) return {}
  const matter = /^---\r?\n(.*?)\r?\n---/s.exec(await readText(file))?.[1] ?? ''
  const found = Object.entries(fields).map(([key, field]) => [field, new RegExp(`^${key}:[ \\t]*(.+)$`, 'm').exec(matter)?.[1]?.trim()])
  return Object.fromEntries(found.filter(([, value]) => value !== undefined).map(([field, value]) => [field, unquoted(value as string)]))
}

const unquoted = (text: string): string => text.replace(/^(["'])(.*)\1$/, '$2')

/** Quotes a text so that it is valid YAML anywhere. */
const quoted = (text: string): string => JSON.stringify(text)

/**
 * The card of a written model: front matter for the hub, what was removed and how, the change in perplexity, and how the folder stores the
 * model.
 * @param types the weight types of the files beside the card, if the format has types
 */
export function modelCard(request: ExportRequest, holds: string, parent: ParentCard, types: readonly string[] = []): string {
  return [...frontMatter(request, parent), describeModel(request, holds, types)].join('\n')
}

/** The card without its front matter. */
export function describeModel(request: Described, holds: string, types: readonly string[] = []): string {
  const { model, plan, method, run } = request
  const name = markdownLine(model.name)
  return [
    ...(method === denseMethod
      ? [`# ${name}`, '', 'Written with Espalier. Nothing was removed.']
      : [
          `# ${name}, pruned`,
          '',
          `Pruned with Espalier: method ${method}, ${removedText(model.spec, plan)} removed.${run ? ` Seed ${run.seed}.` : ''}`,
        ]),
    '',
    ...(run ? describeRun(run, method, types) : []),
    holds,
    '',
    '| block of the dense model | attention | MLP |',
    '|---|---|---|',
    ...describeBlocks(request),
    '',
  ].join('\n')
}

function frontMatter({ model, method, run }: ExportRequest, { license, licenseName, licenseLink }: ParentCard): string[] {
  return [
    '---',
    ...(license === undefined ? [] : [`license: ${quoted(license)}`]),
    ...(licenseName === undefined ? [] : [`license_name: ${quoted(licenseName)}`]),
    ...(licenseLink === undefined ? [] : [`license_link: ${quoted(licenseLink)}`]),
    `base_model: ${quoted(run?.baseModel ?? model.name)}`,
    'library_name: transformers',
    'pipeline_tag: text-generation',
    'tags:',
    ...(method === denseMethod ? ['espalier'] : ['pruned', 'espalier', method]).map((tag) => `  - ${quoted(tag)}`),
    '---',
    '',
  ]
}

function describeRun(run: ExportedRun, method: string, types: readonly string[]): string[] {
  const { calibration, repair, recovery } = run
  const pruned =
    method === denseMethod ? [] : [calibration.length > 0 ? `Calibrated on ${describeTexts(calibration)}.` : 'Calibrated on nothing.']
  return [
    ...pruned,
    ...(repair ? [`Repaired ${repairWords[repair.kind]} on ${describeTexts(repair.texts)}.`] : []),
    ...(recovery
      ? [
          `Recovered by training ${trainsWords[recovery.trains]} for ${recovery.tokens.toLocaleString('en')} tokens of ${describeSources(recovery.texts)}.`,
        ]
      : []),
    '',
    ...describeLosses(run, method === denseMethod, types),
    '',
  ]
}

const repairWords = { 'one-pass': 'in one pass', 'in-order': 'block by block' } as const
const trainsWords = { all: 'all remaining weights', 'low-rank': `a change of rank ${rank} to each weight` } as const

const describeTexts = (texts: ExportedTexts): string =>
  texts
    .map(
      ({ source, windows, sequenceLength, beginToken }) =>
        `${windowsText(windows, sequenceLength)} of ${markdownLine(source)}${beginToken ? ', each beginning with the begin token' : ''}`,
    )
    .join(' and ')

const describeSources = (texts: ExportedTexts): string => texts.map(({ source }) => markdownLine(source)).join(' and ')

/** Types that store the weights as computed, except for rounding to half precision. */
const unquantised: readonly string[] = ['F32', 'F16', 'BF16', 'SOURCE']

/** The table of perplexities and bits per byte, if they were measured on what lies beside the card; else why there is none. */
function describeLosses({ measures, weights }: ExportedRun, isDense: boolean, types: readonly string[]): string[] {
  if (measures.length === 0) return ['No perplexity was measured.']
  const isOwn = weights === null ? types.every((type) => unquantised.includes(type)) : types.includes(weights)
  const measured = weights === null ? 'on the weights as computed' : `on the weights as stored in ${weightText(weights)}`
  if (!isOwn)
    return [`Perplexity was measured ${measured}, not on ${types.length > 0 ? types.map(weightText).join(' or ') : 'this folder'}.`]
  return [
    `Perplexity was measured ${measured}${weights === null ? ', before they were written' : ''}:`,
    '',
    ...(isDense ? ['| | dense |', '|---|---|'] : ['| | dense | pruned |', '|---|---|---|']),
    ...measures.map(({ name, dataset, before, after }) => {
      const values = isDense ? [after.toFixed(4)] : [before?.toFixed(4) ?? 'not measured', after.toFixed(4)]
      return `| ${[`${name} on ${markdownLine(dataset)}`, ...values].join(' | ')} |`
    }),
  ]
}

function describeBlocks({ model, plan }: Described): string[] {
  return plan.blocks.map((block, index) => {
    return `| ${index} | ${block.attention} | ${mlpText(block.mlp, layoutOf(model.spec, index))} |`
  })
}

function mlpText(mlp: MlpPlan, { width, experts }: BlockLayout): string {
  if (mlp === 'removed') return 'removed'
  if (experts === undefined) return mlp.kept === 'all' ? 'kept' : `${mlp.kept.length} of ${width} neurons`
  const staying = keptExperts(mlp, experts)
  const constants = staying.filter(({ constant }) => constant).length
  const neurons = mlp.keptByExpert?.[0]?.length
  const changes = [
    ...(staying.length < experts || constants > 0 ? [`${staying.length - constants} of ${experts} experts`] : []),
    ...(constants > 0 ? [`${plural(constants, 'expert')} as ${constants === 1 ? 'a constant vector' : 'constant vectors'}`] : []),
    ...(neurons === undefined ? [] : [`${neurons} of ${width} neurons in each expert`]),
  ]
  return changes.join(', ') || 'kept'
}
