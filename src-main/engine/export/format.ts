import { readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ExportedRun, SavedFile } from '#contract/exports/exports.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { FormatId } from '#contract/titles.ts'
import { keysAndValues } from '#engine/architectures/count-parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { elementBytes } from '#engine/checkpoint/dtypes.ts'
import { formatConfig } from '#engine/checkpoint/json.ts'
import type { TensorToWrite } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import { writeShards } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import { writeFolderAtomically } from '#engine/checkpoint/write-folder.ts'
import type { Model } from '#engine/model/model.ts'
import type { PlanTensors } from '#engine/model/views/plan-tensors.ts'
import { renumbered, renumberIds } from '#engine/tokenizer/trim-tokenizer.ts'
import { copyCompanions } from './companions.ts'
import type { Importances } from './gguf/importances.ts'
import type { Planned } from './pieces.ts'

/** The model that a card describes. */
export interface Described {
  readonly model: Pick<Model, 'name' | 'checkpoint' | 'spec'>
  readonly plan: Plan
  readonly method: string
  /** The facts about the run, if the plan comes from a run. */
  readonly run?: ExportedRun
}

/** Everything that a format needs to write a model. */
export interface ExportRequest extends Described {
  readonly model: Model
  /** The tensors that the plan refers to. */
  readonly tensors?: PlanTensors
  readonly folder: string
  readonly replace?: boolean
  /** Weight types, for formats that offer a choice. Each gets a file. */
  readonly ggufTypes?: readonly string[]
  /** How much errors count in each column of a quantised matrix. */
  readonly importances?: Importances
  readonly watch?: WriteWatch
}

/** Receives the progress of a save in bytes, and can cancel it. */
export interface WriteWatch {
  readonly signal?: AbortSignal
  onBytes?(bytes: number): void
}

/** What a format would write, before anything is read or written. */
export interface Outline {
  readonly bytes: number
  /** Bytes of keys and values in half precision for 1,000 tokens of context. */
  readonly keyValueBytes: number
  readonly notes: readonly string[]
}

/** A file format for pruned models. */
export interface ExportFormat {
  readonly id: FormatId
  /** Its position in lists. A new format takes the next number. */
  readonly order: number
  readonly title: string
  readonly summary: string
  /** Whether Espalier can open what the format writes. */
  readonly reopens: boolean
  /** Describes what the format would write, in a weight type if it has types. Throws `infeasible` if it cannot hold the model. */
  outline(planned: Planned, type: string): Promise<Outline>
  /** The size of the weight files on disk, headers included, in a weight type if the format has types. */
  fileBytes(described: Described, type: string): Promise<number>
  write(request: ExportRequest): Promise<void>
  /** For formats that write a file per weight type: the files in the folder. In other formats, the folder is the model. */
  filesIn?(folder: string): Promise<Pick<SavedFile, 'type' | 'path' | 'bytes'>[]>
}

/** Bytes of each file in a folder. */
export async function sizesIn(folder: string): Promise<ReadonlyMap<string, number>> {
  const names = await readdir(folder)
  return new Map(await Promise.all(names.map(async (name) => [name, (await stat(join(folder, name))).size] as const)))
}

interface FolderContents {
  readonly tensors: TensorToWrite[]
  readonly config: Record<string, unknown>
  /** Further files by name. */
  readonly files: Record<string, string>
}

/**
 * Writes a safetensors folder, with the tokenizer of the original model. It appears only when complete. `writeShards` names the weight
 * files.
 */
export async function writeModelFolder(
  { model, plan, folder, replace, watch }: ExportRequest,
  { tensors, config, files }: FolderContents,
): Promise<void> {
  await writeFolderAtomically(
    folder,
    async (temporary) => {
      await writeShards(temporary, watched(tensors, watch), model.checkpoint.shardBytes)
      const kept = plan.vocabulary?.kept
      const own = kept ? { ...renumberIds(config, renumbered(kept)), vocab_size: kept.length } : config
      await writeFile(join(temporary, 'config.json'), formatConfig(own, decimalsOf(model)))
      await copyCompanions(model.path, temporary, kept)
      for (const [name, text] of Object.entries(files)) await writeFile(join(temporary, name), text)
    },
    { replace: replace ?? false },
  )
}

/** Paths of the numbers that the config writes with decimals, also for the config of the text model alone. */
function decimalsOf({ checkpoint: { decimals } }: Model): Set<string> {
  return new Set([...decimals].flatMap((path) => [path, path.replace(/^text_config\./, '')]))
}

/** Wraps tensors so that computing one checks the watch's signal and reports its bytes. */
export function watched<T extends { bytes: () => Promise<Uint8Array> | Uint8Array }>(tensors: readonly T[], watch: WriteWatch = {}): T[] {
  return tensors.map((tensor) => ({
    ...tensor,
    async bytes() {
      watch.signal?.throwIfAborted()
      const bytes = await tensor.bytes()
      watch.onBytes?.(bytes.byteLength)
      return bytes
    },
  }))
}

/** Bytes of tensors in a safetensors file, without its header. */
export function tensorBytes(tensors: readonly Pick<TensorToWrite, 'dtype' | 'shape'>[]): number {
  return tensors.reduce((total, { dtype, shape }) => total + shape.reduce((product, size) => product * size, elementBytes(dtype)), 0)
}

/** Bytes of keys and values in half precision for 1,000 tokens in a model with `attentions` attention submodules. */
export const keyValueBytes = (spec: DecoderSpec, attentions: number): number => 2 * 1000 * keysAndValues(spec, attentions)
