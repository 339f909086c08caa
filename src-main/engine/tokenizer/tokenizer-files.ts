import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { explainIssues, readWith } from '#contract/explain-issue.ts'
import { resolveInside } from '#runtime/resolve-inside.ts'
import { type JsonObject, parseObject } from '../checkpoint/json.ts'
import { modelTexts } from '../checkpoint/model-files.ts'
import { exists, readText } from '../checkpoint/regular-file.ts'

/** The files of a model folder that describe its tokenizer, parsed and checked. */
export interface TokenizerFiles {
  /** The folder or file that they come from, for errors. */
  where: string
  /** tokenizer.json */
  tokenizer: JsonObject
  /** tokenizer_config.json */
  settings: JsonObject
  chatTemplate?: string
  beginToken?: string
  endToken?: string
  beginId?: number
  endIds: number[]
  /** generation_config.json */
  generation?: JsonObject
}

const id = z
  .number()
  .int()
  .nonnegative()
  .max(2 ** 24)
const vocabulary = z.union([z.record(z.string(), id), z.array(z.tuple([z.string(), z.number()]))])

const tokenizerSchema = z.looseObject({
  added_tokens: z.array(z.looseObject({ id, content: z.string().min(1) })).optional(),
  model: z.looseObject({ type: z.enum(['BPE', 'Unigram', 'WordPiece']).optional(), vocab: vocabulary }),
})

const token = z.union([z.string(), z.looseObject({ content: z.string() }).transform(({ content }) => content)])
const namedTemplates = z.array(z.object({ name: z.string(), template: z.string() }))

const settingsSchema = z.looseObject({
  bos_token: token.nullish(),
  eos_token: token.nullish(),
  chat_template: z.union([z.string(), namedTemplates]).nullish(),
})

const idsSchema = z.looseObject({
  bos_token_id: id.nullish().catch(undefined),
  eos_token_id: z
    .union([id.transform((one) => [one]), z.array(id)])
    .nullish()
    .catch(undefined),
})

/** Reads the files of a folder that describe its tokenizer. */
export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  const where = await resolveInside(folder, modelTexts.tokenizer)
  if (!(await exists(where))) {
    throw new EspalierError('not-found', `${folder} has no tokenizer.json. Place the model's tokenizer.json in the folder.`)
  }
  const tokenizer = parseWith(tokenizerSchema, parseObject(await readText(where), where), where)
  const settings = await readOptional(folder, modelTexts.tokenizerSettings, settingsSchema)
  const generation = await readOptional(folder, modelTexts.generation, idsSchema)
  const config = await readOptional(folder, modelTexts.config, idsSchema)
  const template = await resolveInside(folder, modelTexts.chatTemplate)
  const chatTemplate = (await exists(template)) ? await readText(template) : chooseTemplate(settings?.chat_template)
  return {
    where,
    tokenizer,
    settings: settings ?? {},
    endIds: [...(generation?.eos_token_id ?? []), ...(config?.eos_token_id ?? [])],
    ...(chatTemplate === undefined ? {} : { chatTemplate }),
    ...(settings?.bos_token == null ? {} : { beginToken: settings.bos_token }),
    ...(settings?.eos_token == null ? {} : { endToken: settings.eos_token }),
    ...(config?.bos_token_id == null ? {} : { beginId: config.bos_token_id }),
    ...(generation ? { generation } : {}),
  }
}

function chooseTemplate(templates: string | z.infer<typeof namedTemplates> | null | undefined): string | undefined {
  if (!Array.isArray(templates)) return templates ?? undefined
  return (templates.find(({ name }) => name === 'default') ?? templates[0])?.template
}

async function readOptional<Schema extends z.ZodType>(folder: string, name: string, schema: Schema): Promise<z.infer<Schema> | undefined> {
  const file = await resolveInside(folder, name)
  return (await exists(file)) ? parseWith(schema, parseObject(await readText(file), file), file) : undefined
}

function parseWith<Schema extends z.ZodType>(schema: Schema, value: JsonObject, file: string): z.infer<Schema> {
  const result = readWith(schema, value)
  if (result.success) return result.data
  const [issue] = explainIssues(result.error, value)
  throw new EspalierError('invalid', `${file} is not usable: ${issue?.message}`, { file })
}

/** Whether the model's own encoder puts the begin token before a text. */
export function beginsTexts({ tokenizer, settings, beginToken }: TokenizerFiles): boolean {
  if (typeof settings.add_bos_token === 'boolean') return settings.add_bos_token
  return beginToken !== undefined && startsWith(tokenizer.post_processor, beginToken)
}

function startsWith(postProcessor: unknown, token: string): boolean {
  if (typeof postProcessor !== 'object' || postProcessor === null) return false
  const { single, processors } = postProcessor as { single?: unknown; processors?: unknown[] }
  if (Array.isArray(processors)) return processors.some((inner) => startsWith(inner, token))
  const [first] = Array.isArray(single) ? (single as { SpecialToken?: { id?: string } }[]) : []
  return first?.SpecialToken?.id === token
}
