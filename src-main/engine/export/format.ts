import { copyFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Plan } from '#contract/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { writeFolderAtomically } from '#engine/checkpoint/write-folder.ts'
import { type TensorToWrite, writeSafetensors } from '#engine/checkpoint/write-safetensors.ts'
import type { Model } from '#engine/model/model.ts'
import type { PlanTensors } from '#engine/model/plan-tensors.ts'
import { reachedSparsity } from '#engine/pruning/plan.ts'

/** What is known of the model to be written besides its weights. */
export interface ExportRequest {
  readonly model: Model
  readonly plan: Plan
  /** The tensors that the plan names. */
  readonly tensors?: PlanTensors
  readonly method: string
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

/** Files beside the weights that belong to a model as they are. */
const carried = /^(tokenizer|special_tokens|added_tokens|vocab|merges|chat_template|generation_config|LICENSE|NOTICE)/

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
      await writeSafetensors(join(temporary, 'model.safetensors'), tensors, { format: 'pt' })
      await writeFile(join(temporary, 'config.json'), `${JSON.stringify(config, null, 2)}\n`)
      for (const [name, text] of Object.entries(files)) await writeFile(join(temporary, name), text)
      for (const name of await readdir(model.path)) {
        if (carried.test(name)) await copyFile(join(model.path, name), join(temporary, name))
      }
    },
    { replace: replace ?? false },
  )
}

/** The card of a written model: what was removed and how the folder holds it. */
export function modelCard({ model, plan, method }: ExportRequest, holds: string): string {
  const blocks = plan.blocks.map((block, index) => {
    const mlp =
      block.mlp === 'removed'
        ? 'removed'
        : block.mlp.kept === 'all'
          ? 'kept'
          : `${block.mlp.kept.length} of ${model.spec.blocks[index]?.width} neurons`
    return `| ${index} | ${block.attention} | ${mlp} |`
  })
  return [
    `# ${model.name}, pruned`,
    '',
    `Pruned with Espalier: method ${method}, ${(100 * reachedSparsity(model.spec, plan)).toFixed(2)} % of the block stack's parameters removed. No weight was retrained.`,
    '',
    holds,
    '',
    '| block of the dense model | attention | MLP |',
    '|---|---|---|',
    ...blocks,
    '',
  ].join('\n')
}
