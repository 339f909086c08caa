import { readdir } from 'node:fs/promises'
import type { ExportedRun } from '#contract/exports/exported-run.ts'
import { markdownLine } from '#contract/markdown.ts'
import { exists, readText } from '#engine/checkpoint/regular-file.ts'
import type { Model } from '#engine/model/model.ts'
import { reachedSparsity } from '#engine/pruning/plan.ts'
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
 */
export function modelCard(request: ExportRequest, holds: string, parent: ParentCard): string {
  return [...frontMatter(request, parent), describeModel(request, holds)].join('\n')
}

/** The card without its front matter. */
export function describeModel(request: Described, holds: string): string {
  const { model, plan, method, run } = request
  const removed = (100 * reachedSparsity(model.spec, plan)).toFixed(2)
  return [
    `# ${markdownLine(model.name)}, pruned`,
    '',
    `Pruned with Espalier: method ${method}, ${removed} % of the block stack's parameters removed.${run ? ` Seed ${run.seed}.` : ''}`,
    '',
    ...(run ? describeRun(run) : []),
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
    ...['pruned', 'espalier', method].map((tag) => `  - ${quoted(tag)}`),
    '---',
    '',
  ]
}

function describeRun({ calibration, perplexities }: ExportedRun): string[] {
  const data = calibration.map(
    ({ source, windows, sequenceLength }) => `${windows} windows of ${sequenceLength} tokens of ${markdownLine(source)}`,
  )
  return [
    data.length > 0 ? `Calibrated on ${data.join(' and ')}.` : 'Calibrated on nothing.',
    '',
    ...(perplexities.length === 0
      ? ['No perplexity was measured.']
      : ['| perplexity on | dense | pruned |', '|---|---|---|', ...perplexities.map(describePerplexity)]),
    '',
  ]
}

function describePerplexity({ dataset, before, after }: ExportedRun['perplexities'][number]): string {
  return `| ${markdownLine(dataset)} | ${before === null ? 'not measured' : before.toFixed(4)} | ${after.toFixed(4)} |`
}

function describeBlocks({ model, plan }: Described): string[] {
  return plan.blocks.map((block, index) => {
    const mlp =
      block.mlp === 'removed'
        ? 'removed'
        : block.mlp.kept === 'all'
          ? 'kept'
          : `${block.mlp.kept.length} of ${model.spec.blocks[index]?.width} neurons`
    return `| ${index} | ${block.attention} | ${mlp} |`
  })
}
