import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { at } from '#contract/at.ts'
import { modelfileName, readFileName, typeInName } from '#contract/exports/exports.ts'
import type { VocabularyPlan } from '#contract/pruning/plan.ts'
import { denseMethod, mixedBytes, usualGgufTypes } from '#contract/titles.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { blockTypeNamed } from '#engine/checkpoint/gguf/value-blocks.ts'
import {
  entriesBytes,
  ggufShardsBytes,
  type MetadataEntries,
  shardNames,
  writeGguf,
  writeGgufShards,
} from '#engine/checkpoint/gguf/write-gguf.ts'
import { writeFolderAtomically } from '#engine/checkpoint/write-folder.ts'
import { reachedSparsity, removedText } from '#engine/pruning/plan.ts'
import { type Described, type ExportFormat, type ExportRequest, keyValueBytes, sizesIn, watched } from '../format.ts'
import { describeModel, modelCard, readParentCard } from '../model-card.ts'
import type { Planned } from '../pieces.ts'
import { type GgufFile, layOutGguf } from './gguf-file.ts'
import type { Importances } from './importances.ts'
import { tokenizerMetadata } from './tokenizer.ts'

/**
 * A file for llama.cpp and programs built on it (Ollama, LM Studio), with a Modelfile beside it. In architectures that state sizes block by
 * block, removed attention and removed neurons take no space. In others, they are written as zeros.
 */
export const gguf: ExportFormat = {
  id: 'gguf',
  order: 3,
  title: 'GGUF file',
  summary: 'For llama.cpp, Ollama and LM Studio.',
  reopens: true,
  async outline(planned, type) {
    const { bytes, attentions, notes } = layOutGguf(planned, type)
    return {
      bytes: undecidedBytes(planned, type) ?? bytes + (await tokenizerBytes(planned)),
      keyValueBytes: keyValueBytes(planned.model.spec, attentions),
      notes,
    }
  },
  async fileBytes(described, type) {
    const budget = undecidedBytes(described, type)
    if (budget !== undefined) return budget
    const { metadata, tensors } = layOutGguf(described, type)
    const own = entriesBytes(new Map([...metadata, ...nameModel(described, type)]))
    return ggufShardsBytes(own + (await tokenizerBytes(described)), tensors)
  },
  async write(request) {
    const { folder, replace, ggufTypes = usualGgufTypes, importances, watch } = request
    const files = ggufTypes.map((type) => ({ type, file: layOutGguf(request, type, importances) }))
    const tokenizer = await tokenizerOf(request)
    await writeFolderAtomically(
      folder,
      async (temporary) => {
        for (const { type, file } of files) {
          const metadata = new Map([...file.metadata, ...nameModel(request, type), ...tokenizer])
          await writeGgufShards(temporary, stemOf(request, type), { metadata, tensors: watched(file.tensors, watch) })
        }
        const weighed = files.find(({ file }) => file.weighed.size > 0)
        if (importances && weighed) await writeImatrix(join(temporary, `${fileName(request)}.imatrix`), weighed.file, importances)
        for (const file of files)
          await writeFile(join(temporary, modelfileName(file.type, files.length)), modelfile(firstFile(request, file), file))
        const card = modelCard(request, describe(request, files), await readParentCard(request.model), ggufTypes)
        await writeFile(join(temporary, 'README.md'), card)
      },
      { replace: replace ?? false },
    )
  },
  async filesIn(folder) {
    const sizes = await sizesIn(folder)
    const first = [...sizes.keys()].filter((name) => /\.gguf$/.test(name) && !/-(?!00001)\d{5}-of-\d{5}\.gguf$/.test(name)).sort()
    return first.map((name) => {
      const { stem, type } = readFileName(name) ?? { stem: '', type: '' }
      const parts = [...sizes].filter(([other]) => other === `${stem}.gguf` || other.startsWith(`${stem}-0`))
      return { type, path: join(folder, name), bytes: parts.reduce((sum, [, size]) => sum + size, 0) }
    })
  },
}

/** The bytes of a file of mixed types that are not chosen yet: those of its budget. */
const undecidedBytes = ({ plan }: Planned, type: string): number | undefined => (plan.types ? undefined : mixedBytes(type))

const tokenizers = new WeakMap<Checkpoint | VocabularyPlan, Promise<MetadataEntries>>()

/** A model's tokenizer metadata, read once while the model is open, and once for each trimmed vocabulary. */
function tokenizerOf({ model: { checkpoint, spec }, plan }: Planned): Promise<MetadataEntries> {
  const key = plan.vocabulary ?? checkpoint
  const known = tokenizers.get(key)
  if (known !== undefined) return known
  const context = { vocabulary: spec.vocabulary, config: checkpoint.config, kept: plan.vocabulary?.kept }
  const reading = tokenizerMetadata(checkpoint.path, context)
  tokenizers.set(key, reading)
  return reading
}

const tokenizerSizes = new WeakMap<MetadataEntries, number>()

/** Bytes of a tokenizer's metadata, counted once. */
async function tokenizerBytes(planned: Planned): Promise<number> {
  const tokenizer = await tokenizerOf(planned)
  const bytes = tokenizerSizes.get(tokenizer) ?? entriesBytes(tokenizer)
  tokenizerSizes.set(tokenizer, bytes)
  return bytes
}

/** The file name for a type, without its ending. */
function stemOf(request: ExportRequest, type: string): string {
  return `${fileName(request)}-${typeInName(type)}`
}

function fileName({ model, method }: ExportRequest): string {
  return `${model.name.replace(/\.gguf$/i, '')}-${method}`.replace(/[^\w.-]+/g, '-')
}

/** Bytes reserved in a file that is planned for a budget: the card of a finished run is longer than that of a planned one. */
export const cardRoom = 2 ** 11

/** The name and the model card as metadata, for programs that show them. */
function nameModel(request: Described, type: string): MetadataEntries {
  const { model, plan, method } = request
  const holds = `${removedText(model.spec, plan)} were removed.`
  const { run: _, ...planned } = request
  const [brief, whole] = [describeModel(planned, holds, [type]), describeModel(request, holds, [type])]
  return new Map([
    ['general.name', { kind: 'text', value: method === denseMethod ? model.name : `${model.name}, pruned by ${method}` }],
    // A run with many texts has a card that a size budget has no room for. The card beside the file is complete.
    ['general.description', { kind: 'text', value: Buffer.byteLength(whole) - Buffer.byteLength(brief) > cardRoom ? brief : whole }],
    ['espalier.parent', { kind: 'text', value: model.name }],
    ['espalier.method', { kind: 'text', value: method }],
    ['espalier.sparsity', { kind: 'float', value: reachedSparsity(model.spec, plan) }],
  ])
}

interface LaidOut {
  readonly type: string
  readonly file: GgufFile
}

/** The name of the file to open. If there are several files, the first one leads to the others. */
function firstFile(request: ExportRequest, { type, file }: LaidOut): string {
  return shardNames(stemOf(request, type), file.tensors)[0] as string
}

function modelfile(name: string, { file }: LaidOut): string {
  const length = [...file.metadata].find(([key]) => key.endsWith('.context_length'))?.[1].value
  return [`FROM ./${name}`, `PARAMETER num_ctx ${String(length)}`, ''].join('\n')
}

function describe(request: ExportRequest, files: readonly LaidOut[]): string {
  const [first] = files
  const parts = first === undefined ? [] : shardNames(stemOf(request, first.type), first.file.tensors)
  return [
    ...files.map((written) => `- \`${firstFile(request, written)}\`: ${(written.file.bytes / 1e6).toFixed(1)} MB of weights`),
    '',
    ...(first?.file.notes ?? []),
    '',
    `llama.cpp: \`llama-cli -m ${parts[0]}\`. Ollama: \`ollama create ${fileName(request).toLowerCase()} -f ${modelfileName(first?.type ?? '', files.length)}\` in this folder. LM Studio: put the folder into its folder of models.`,
    ...(parts.length > 1
      ? [
          `The weights lie in ${parts.length} files. \`llama-gguf-split --merge ${parts[0]} ONE.gguf\` joins them for programs that take one.`,
        ]
      : []),
  ].join('\n')
}

/** Writes the importances of a file's tensors in the form that llama-quantize reads (`--imatrix`). */
async function writeImatrix(
  path: string,
  { weighed, tensors: written }: GgufFile,
  { texts, tokens, begins = false }: Importances,
): Promise<void> {
  const metadata: MetadataEntries = new Map([
    ['general.type', { kind: 'text', value: 'imatrix' }],
    ['imatrix.datasets', { kind: 'texts', value: texts }],
    ['espalier.begin_token', { kind: 'text', value: begins ? 'in each window' : 'none' }],
    ['imatrix.chunk_count', { kind: 'integer', value: 1 }],
    ['imatrix.chunk_size', { kind: 'integer', value: tokens }],
  ])
  const type = blockTypeNamed('F32')
  const matrix = (name: string, rows: number, values: Float32Array) => ({
    name,
    type,
    shape: [rows, values.length / rows],
    bytes: async () => new Uint8Array(values.buffer),
  })
  const tensors = written.flatMap(({ name, shape }) => {
    const values = weighed.get(name)
    if (!values) return []
    const experts = shape.length > 2 ? at(shape, 0) : 1
    const sums = values.map((value) => value * tokens)
    return [matrix(`${name}.in_sum2`, experts, sums), matrix(`${name}.counts`, experts, new Float32Array(experts).fill(tokens))]
  })
  await writeGguf(path, metadata, tensors)
}
