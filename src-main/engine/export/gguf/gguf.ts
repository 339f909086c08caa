import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { formatTitles, usualGgufTypes } from '#contract/titles.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { type GgufTensorToWrite, headerBytes, type MetadataEntries, storedBytes, writeGguf } from '#engine/checkpoint/gguf/write-gguf.ts'
import { writeFolderAtomically } from '#engine/checkpoint/write-folder.ts'
import { reachedSparsity } from '#engine/pruning/plan.ts'
import { type ExportFormat, type ExportRequest, keyValueBytes, watched } from '../format.ts'
import { describeModel, modelCard, readParentCard } from '../model-card.ts'
import type { Planned } from '../pruned-tensors.ts'
import { type GgufFile, layOutGguf } from './gguf-file.ts'
import { tokenizerMetadata } from './tokenizer.ts'

/** Bytes of tensors beyond which a file is split, as hubs and file systems like it. */
const shardBytes = 5e9

/**
 * A file for llama.cpp and what is built on it (Ollama, LM Studio), with a Modelfile beside it. Removed attention and narrower MLPs take
 * no place in architectures that state sizes block by block; elsewhere they stand as zeros.
 */
export const gguf: ExportFormat = {
  title: formatTitles.gguf,
  summary: 'For llama.cpp, Ollama and LM Studio; really smaller for Llama, Mistral, Qwen2, Phi-3 and Qwen3 with a tied head.',
  reopens: true,
  async outline(planned, ggufTypes) {
    const { spec } = planned.model
    const files = ggufTypes.map((type) => ({ type, file: layOutGguf(planned, type) }))
    const header = headerBytes(await tokenizerOf(planned))
    return files.map(({ type, file: { bytes, attentions, notes } }) => ({
      type,
      bytes: bytes + header,
      keyValueBytes: keyValueBytes(spec, attentions),
      notes,
    }))
  },
  async write(request) {
    const { folder, replace, ggufTypes = usualGgufTypes, watch } = request
    const files = ggufTypes.map((type) => ({ type, file: layOutGguf(request, type) }))
    const tokenizer = await tokenizerOf(request)
    const named = nameModel(request)
    await writeFolderAtomically(
      folder,
      async (temporary) => {
        for (const { type, file } of files) {
          const name = `${fileName(request)}-${type}`
          await writeShards(temporary, name, new Map([...file.metadata, ...named, ...tokenizer]), watched(file.tensors, watch))
        }
        await writeFile(join(temporary, 'Modelfile'), modelfile(request, files))
        await writeFile(join(temporary, 'README.md'), modelCard(request, describe(request, files), await readParentCard(request.model)))
      },
      { replace: replace ?? false },
    )
  },
}

const tokenizers = new WeakMap<Checkpoint, Promise<MetadataEntries>>()

/** A model's tokenizer, read once for all that is asked of it while it is open. */
function tokenizerOf({ model: { checkpoint, spec } }: Planned): Promise<MetadataEntries> {
  const known = tokenizers.get(checkpoint)
  if (known !== undefined) return known
  const reading = tokenizerMetadata(checkpoint.path, { vocabulary: spec.vocabulary, config: checkpoint.config })
  tokenizers.set(checkpoint, reading)
  return reading
}

/** One file, or as many as keep each under the limit; the first of several holds the metadata of all. */
async function writeShards(folder: string, name: string, metadata: MetadataEntries, tensors: readonly GgufTensorToWrite[]): Promise<void> {
  const shards = divide(tensors)
  if (shards.length === 1) return writeGguf(join(folder, `${name}.gguf`), metadata, tensors)
  for (const [index, shard] of shards.entries()) {
    const own: MetadataEntries = new Map(index === 0 ? metadata : [])
    own.set('split.no', { kind: 'short', value: index })
    own.set('split.count', { kind: 'short', value: shards.length })
    own.set('split.tensors.count', { kind: 'signed', value: tensors.length })
    await writeGguf(join(folder, shardName(name, index, shards.length)), own, shard)
  }
}

/** How llama.cpp names the parts of a file. */
function shardName(name: string, index: number, count: number): string {
  const five = (value: number) => String(value).padStart(5, '0')
  return `${name}-${five(index + 1)}-of-${five(count)}.gguf`
}

function divide(tensors: readonly GgufTensorToWrite[]): GgufTensorToWrite[][] {
  const shards: GgufTensorToWrite[][] = [[]]
  let bytes = 0
  for (const tensor of tensors) {
    if (bytes > 0 && bytes + storedBytes(tensor) > shardBytes) {
      shards.push([])
      bytes = 0
    }
    shards.at(-1)?.push(tensor)
    bytes += storedBytes(tensor)
  }
  return shards
}

function fileName({ model, method }: ExportRequest): string {
  return `${model.name.replace(/\.gguf$/i, '')}-${method}`.replace(/[^\w.-]+/g, '-')
}

/** What the card says, for programs that read metadata. */
function nameModel(request: ExportRequest): MetadataEntries {
  const { model, plan, method } = request
  const removed = reachedSparsity(model.spec, plan)
  const percent = (100 * removed).toFixed(2)
  return new Map([
    ['general.name', { kind: 'text', value: `${model.name}, pruned by ${method}` }],
    ['general.description', { kind: 'text', value: describeModel(request, `${percent} % of the block stack's parameters are gone.`) }],
    ['espalier.parent', { kind: 'text', value: model.name }],
    ['espalier.method', { kind: 'text', value: method }],
    ['espalier.sparsity', { kind: 'float', value: removed }],
  ])
}

interface WrittenFile {
  readonly type: string
  readonly file: GgufFile
}

function modelfile(request: ExportRequest, files: readonly WrittenFile[]): string {
  const [first] = files
  const length = [...(first?.file.metadata ?? [])].find(([key]) => key.endsWith('.context_length'))?.[1].value
  return [`FROM ./${fileName(request)}-${first?.type}.gguf`, `PARAMETER num_ctx ${String(length)}`, ''].join('\n')
}

function describe(request: ExportRequest, files: readonly WrittenFile[]): string {
  const name = fileName(request)
  const [first] = files
  return [
    ...files.map(({ type, file }) => `- \`${name}-${type}.gguf\`: ${(file.bytes / 1e6).toFixed(1)} MB of weights`),
    '',
    ...(first?.file.notes ?? []),
    '',
    `llama.cpp: \`llama-cli -m ${name}-${first?.type}.gguf\`. Ollama: \`ollama create ${name.toLowerCase()} -f Modelfile\` in this folder. LM Studio: put the folder into its folder of models.`,
  ].join('\n')
}
