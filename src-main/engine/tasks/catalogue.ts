import { existsSync, statSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { Catalogue, DatasetEntry, MethodEntry, OptionField } from '#contract/pruning/methods.ts'
import { sampleTextTitles, selfWritten } from '#contract/titles.ts'
import { families } from '#engine/architectures/index.ts'
import { bundledIds, bundledTexts, locateBundled } from '#engine/data/bundled.ts'
import { datasetIds, namedDatasets } from '#engine/data/named.ts'
import { taskIds, tasks } from '#engine/evaluation/tasks/index.ts'
import { readQuestions } from '#engine/evaluation/tasks/questions.ts'
import { writtenTasks } from '#engine/evaluation/written/index.ts'
import { formats } from '#engine/export/index.ts'
import { ablations } from '#engine/pruning/ablations/index.ts'
import type { Method } from '#engine/pruning/method.ts'
import { methods } from '#engine/pruning/registry.ts'

/** Folders of the bundled texts and questions. */
interface CatalogueFolders {
  /** The bundled sample model, with `calibration.txt` and `test.txt`. */
  readonly sample: string
  readonly questions: string
}

/** Everything that a form offers: methods, data sets, tasks and formats, and whether their files are already on this machine. */
export async function describeCatalogue(folders: CatalogueFolders): Promise<Catalogue> {
  return {
    methods: methodEntries(),
    ablations: ablationEntries(),
    datasets: [...(await sampleTexts(folders.sample)), ...bundled(), ...named(), written],
    tasks: [
      ...(await Promise.all(
        taskIds.map(async (id) => {
          const present = existsSync(join(folders.questions, id))
          const questions = present ? (await readQuestions(id, { folder: folders.questions })).length : null
          return { id, title: tasks[id].title, present, questions, written: false }
        }),
      )),
      ...Object.entries(writtenTasks).map(([id, { title }]) => ({ id, title, present: false, questions: null, written: true })),
    ],
    formats: Object.entries(formats).map(([id, { title, summary }]) => ({ id, title, summary })),
    families: Object.entries(families).map(([id, { title, examples }]) => ({ id, title, examples })),
  }
}

const written: DatasetEntry = {
  source: selfWritten,
  title: 'Written by the dense model',
  uses: ['recovery'],
  ofSample: false,
  present: true,
  bytes: null,
  summary: 'Sampled from the dense model: documents, and chats if it has a chat template. Takes time, needs no text.',
}

function bundled(): DatasetEntry[] {
  return bundledIds.map((id) => {
    const { title, use, summary } = bundledTexts[id]
    return { source: id, title, uses: [use], ofSample: false, present: true, bytes: statSync(locateBundled(id)).size, summary }
  })
}

async function sampleTexts(folder: string): Promise<DatasetEntry[]> {
  const entry = async (name: keyof typeof sampleTextTitles, uses: DatasetEntry['uses'], summary: string): Promise<DatasetEntry> => {
    const source = join(folder, `${name}.txt`)
    const found = await stat(source).catch(() => undefined)
    return {
      source,
      title: sampleTextTitles[name],
      uses,
      ofSample: true,
      present: found !== undefined,
      bytes: found?.size ?? null,
      summary,
    }
  }
  return [
    await entry('calibration', ['calibration'], 'WordNet definitions, the only kind of text that the sample model knows.'),
    await entry('test', ['evaluation'], 'Other held-out definitions, to measure the sample model on.'),
  ]
}

/** Data sets on the hub, downloaded when they are used. */
function named(): DatasetEntry[] {
  return datasetIds.map((id) => {
    const { title, file } = namedDatasets[id]
    const summary = `${file.repository}, ${file.path}`
    return {
      source: id,
      title,
      uses: id === 'c4-train' ? ['calibration'] : ['evaluation'],
      ofSample: false,
      present: false,
      bytes: null,
      summary,
    }
  })
}

interface JsonField {
  readonly type?: string
  readonly enum?: (string | number | boolean | null)[]
  readonly const?: string | number | boolean | null
  readonly anyOf?: JsonField[]
  readonly items?: JsonField
  readonly default?: unknown
  readonly minimum?: number
  readonly maximum?: number
  readonly exclusiveMinimum?: number
  readonly title?: string
  readonly help?: string
  readonly unit?: string
  readonly empty?: string
}

/** Returns the values of a field that is a choice, or undefined for other fields. */
function choicesOf(field: JsonField): OptionField['choices'] {
  if (field.enum) return field.enum
  const constants = field.anyOf?.map((entry) => entry.const)
  return constants?.every((value) => value !== undefined) ? (constants as NonNullable<OptionField['choices']>) : undefined
}

function kindOf(field: JsonField): OptionField['kind'] {
  if (choicesOf(field)) return 'choice'
  if (field.type === 'integer' || field.type === 'number' || field.type === 'boolean') return field.type
  return field.type === 'array' ? 'list' : 'text'
}

/** Drops the bounds that Zod sets on whole numbers because of double precision. A form does not need them. */
const bound = (value: number | undefined) => (value === undefined || Math.abs(value) >= Number.MAX_SAFE_INTEGER ? undefined : value)

function toField(name: string, field: JsonField): OptionField {
  const choices = choicesOf(field) ?? (field.type === 'array' ? field.items?.enum : undefined)
  const minimum = bound(field.minimum)
  const above = bound(field.exclusiveMinimum)
  const maximum = bound(field.maximum)
  return {
    name,
    kind: kindOf(field),
    label: field.title ?? name,
    help: field.help ?? '',
    default: field.default,
    required: false,
    ...(minimum === undefined ? {} : { minimum }),
    ...(above === undefined ? {} : { above }),
    ...(maximum === undefined ? {} : { maximum }),
    ...(choices ? { choices } : {}),
    ...(field.unit === undefined ? {} : { unit: field.unit }),
    ...(field.empty === undefined ? {} : { empty: field.empty }),
  }
}

function fieldsOf(options: z.ZodObject): OptionField[] {
  const schema = z.toJSONSchema(options, { io: 'input' }) as { properties?: Record<string, JsonField> }
  return Object.entries(schema.properties ?? {}).map(([name, field]) => toField(name, field))
}

/** Returns every method with its options as form fields, which are derived from its schema. */
export function methodEntries(): MethodEntry[] {
  return Object.entries<Method>(methods).map(([id, { title, paper, own = false, summary, unit, options, refitProblem }]) => ({
    id,
    title,
    paper,
    own,
    summary,
    unit,
    options: fieldsOf(options),
    refits: refitProblem?.(options.parse({})) === undefined,
  }))
}

/** Returns every ablation of 2SSP in the form of `methodEntries`. */
export function ablationEntries(): MethodEntry[] {
  const { paper } = methods['2ssp']
  return Object.entries(ablations).map(([id, { title, summary, options }]) => ({
    id,
    title,
    paper,
    own: false,
    summary,
    unit: 'study',
    options: fieldsOf(options),
    refits: false,
  }))
}
