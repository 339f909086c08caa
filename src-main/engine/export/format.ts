import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ExportedRun } from '#contract/exported-run.ts'
import type { Plan } from '#contract/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { formatConfig } from '#engine/checkpoint/config-text.ts'
import { writeFolderAtomically } from '#engine/checkpoint/write-folder.ts'
import type { TensorToWrite } from '#engine/checkpoint/write-safetensors.ts'
import { writeShards } from '#engine/checkpoint/write-shards.ts'
import type { Model } from '#engine/model/model.ts'
import type { PlanTensors } from '#engine/model/plan-tensors.ts'
import { copyCompanions } from './companions.ts'

/** What is known of the model to be written besides its weights. */
export interface ExportRequest {
  readonly model: Model
  readonly plan: Plan
  /** The tensors that the plan names. */
  readonly tensors?: PlanTensors
  readonly method: string
  /** What the card says of the run, where the plan comes from one. */
  readonly run?: ExportedRun
  readonly folder: string
  readonly replace?: boolean
  /** Types of a GGUF file, one file each. */
  readonly ggufTypes?: readonly string[]
}

/** A way to write a pruned model down. */
export interface ExportFormat {
  readonly title: string
  readonly summary: string
  /** Throws when this format cannot hold such a model; left out where it holds every one. */
  check?(model: { readonly spec: DecoderSpec; readonly sliced: boolean }): void
  write(request: ExportRequest): Promise<void>
}

export interface FolderContents {
  readonly tensors: TensorToWrite[]
  readonly config: Record<string, unknown>
  /** Further files by name. */
  readonly files: Record<string, string>
}

/** Writes a model folder that appears only when it is complete, with the tokenizer of the model it came from. */
export async function writeModelFolder(
  { model, folder, replace }: ExportRequest,
  { tensors, config, files }: FolderContents,
): Promise<void> {
  await writeFolderAtomically(
    folder,
    async (temporary) => {
      await writeShards(temporary, tensors, model.checkpoint.shardBytes)
      await writeFile(join(temporary, 'config.json'), formatConfig(config, decimalsOf(model)))
      await copyCompanions(model.path, temporary)
      for (const [name, text] of Object.entries(files)) await writeFile(join(temporary, name), text)
    },
    { replace: replace ?? false },
  )
}

/** Where decimals are in the config of the text model alone too. */
function decimalsOf({ checkpoint: { decimals } }: Model): Set<string> {
  return new Set([...decimals].flatMap((path) => [path, path.replace(/^text_config\./, '')]))
}
