import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { beginOf, type ModelEntry, numbersOf, textProblems } from '#contract/models/models.ts'
import { downloadModel, followTransfer, isHubName } from './output/follow-transfer.ts'
import { printable, printJson, printTable, showBytes } from './output/print.ts'
import { commonFlags, commonHelp, readFlags } from './read-flags.ts'
import { commandOf } from './run-command.ts'
import { isRemote, withWorkbench } from './with-workbench.ts'

const help = `espalier models list
espalier models add PATH|NAME [--copy] [--name NAME] [--revision REVISION]
espalier models describe ID|NAME
espalier models remove ID|NAME [--files]
espalier models families

Lists the library, adds a checkpoint (a folder of safetensors, a GGUF file, or a hub name, which is downloaded),
describes one, removes one, or lists the model families that Espalier can open. With --server, PATH is a path on that
machine. "describe" also measures, once, whether the model predicts text better if each window begins with its begin
token (BOS); --begin_token=auto does what it states.

  --copy               copy the files into the library instead of linking to them
  --name NAME          the name in the library (default: the folder's name)
  --revision REVISION  branch, tag or commit on the hub
  --files              also delete the files, if the library owns them
${commonHelp}`

const list = async (parameters: string[]): Promise<number> => {
  const { values } = readFlags(parameters, commonFlags, { least: 0, most: 0, name: '' })
  printModels(await withWorkbench(values, ({ call }) => call('models.list', {})), values.json)
  return 0
}

const addFlags = {
  ...commonFlags,
  copy: { type: 'boolean', default: false },
  name: { type: 'string' },
  revision: { type: 'string' },
} as const

const add = async (parameters: string[]): Promise<number> => {
  const { values, words } = readFlags(parameters, addFlags, { least: 1, most: 1, name: 'A path or a hub name' })
  const source = words[0] as string
  const isThere = await stat(source).then(
    () => true,
    () => false,
  )
  const isPath = isThere || !isHubName(source)
  const named = values.name === undefined ? {} : { name: values.name }
  const model = await withWorkbench(values, (door) => {
    if (!isPath) return downloadModel(door, source, values.revision)
    const path = isRemote(values) ? source : resolve(source)
    return door.call('models.add', { path, mode: values.copy ? 'copy' : 'link', ...named })
  })
  printModels([model], values.json)
  if (!values.json) for (const problem of textProblems(model)) console.log(printable(problem))
  return 0
}

const describe = async (parameters: string[]): Promise<number> => {
  const { values, words } = readFlags(parameters, commonFlags, { least: 1, most: 1, name: 'The model’s id or name' })
  const model = await withWorkbench(values, async (door) => {
    const found = findModel(await door.call('models.list', {}), words[0] as string)
    if (found.beginFigures === null && found.description.begins?.token)
      await followTransfer(door, () => door.call('models.measureBegin', { id: found.id }))
    return door.call('models.get', { id: found.id })
  })
  if (values.json) printJson(model)
  else printModel(model)
  return 0
}

const remove = async (parameters: string[]): Promise<number> => {
  const { values, words } = readFlags(
    parameters,
    { ...commonFlags, files: { type: 'boolean', default: false } },
    { least: 1, most: 1, name: 'The model’s id or name' },
  )
  const model = await withWorkbench(values, async ({ call }) => {
    const found = findModel(await call('models.list', {}), words[0] as string)
    await call('models.remove', { id: found.id, files: values.files })
    return found
  })
  if (values.json) printJson({ removed: model.id })
  else console.log(`Removed ${model.id} (${printable(model.name)}).`)
  return 0
}

function findModel(models: readonly ModelEntry[], wanted: string): ModelEntry {
  const found = models.filter(({ id }) => id === wanted)
  const named = found.length > 0 ? found : models.filter(({ name }) => name === wanted)
  if (named.length > 1)
    throw new EspalierError(
      'usage',
      `${named.length} models are called ${wanted}. Give one of these ids: ${named.map(({ id }) => id).join(', ')}.`,
    )
  if (named[0] === undefined)
    throw new EspalierError('not-found', `The library has no model ${wanted}. "espalier models list" shows what it has.`)
  return named[0]
}

function printModel(model: ModelEntry): void {
  const { id, name, path, present, description, bytes } = model
  const { shape, parameters, tokenizer, chatTemplate } = description
  const facts = [
    ['id', id],
    ['name', name],
    ['path', present ? path : `${path} (missing)`],
    ['family', description.family],
    ['blocks', `${shape.blocks}, ${shape.hidden} wide, ${shape.heads} heads, ${shape.keyValueHeads} key/value`],
    ['parameters', parameters.total.toLocaleString('en')],
    ['prunable', parameters.stack.toLocaleString('en')],
    ['dtype', numbersOf(description)],
    ['size', showBytes(bytes)],
    ['context', `${shape.contextLength} tokens`],
    ['tokenizer', `${tokenizer ?? 'none'}${chatTemplate ? ', with a chat template' : ''}`],
    ['begin token', beginOf(model)],
  ]
  for (const [fact = '', value = ''] of facts) console.log(`${fact.padEnd(13)} ${printable(value)}`)
  for (const problem of textProblems(model)) console.log(printable(problem))
}

function printModels(models: readonly ModelEntry[], asJson: boolean): void {
  if (asJson) printJson(models)
  else
    printTable(
      ['ID', 'NAME', 'FAMILY', 'BLOCKS', 'PARAMETERS', 'ACTIVE', 'DTYPE', 'SIZE', 'RUNS', 'PATH'],
      models.map(({ id, name, description, bytes, usedByRuns, path, present }) => [
        id,
        name,
        description.family,
        description.shape.blocks,
        description.parameters.total,
        description.parameters.active ?? description.parameters.total,
        numbersOf(description),
        showBytes(bytes),
        usedByRuns,
        present ? path : `${path} (missing)`,
      ]),
    )
}

const families = async (parameters: string[]): Promise<number> => {
  const { values } = readFlags(parameters, commonFlags, { least: 0, most: 0, name: '' })
  const { families: known } = await withWorkbench(values, ({ call }) => call('methods.list', {}))
  if (values.json) printJson(known)
  else
    printTable(
      ['FAMILY', 'MODEL TYPE', 'EXAMPLES'],
      known.map(({ id, title, examples }) => [title, id, examples]),
    )
  return 0
}

export const models = commandOf('models', help, { list, add, describe, remove, families })
