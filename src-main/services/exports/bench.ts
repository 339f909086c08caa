import { stat } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { fileBench, speedRange } from '#contract/exports/file-bench.ts'
import type { ComputeTask } from '#contract/machine/compute-messages.ts'
import type { Transfer } from '#contract/models/models.ts'
import type { Calls } from '../context.ts'
import { Service } from '../service.ts'

/** Measures GGUF files in llama.cpp: files that exist, and the range of speeds that a method's files could reach. */
export class BenchService extends Service {
  readonly calls: Calls<'bench'> = {
    'bench.files': async (request) => {
      const files = request.files.map((file) => resolve(file))
      for (const file of files) await requireFile(file)
      const name = files.map((file) => basename(file)).join(', ')
      const resolved = { ...request, files }
      return this.#measure(name, resolved, { kind: 'bench files', ...resolved }, (found) => ({ bench: fileBench.parse(found) }))
    },
    'bench.speeds': ({ model: id, ...request }) => {
      const { path: model, name } = this.parts.library.find(id)
      const resolved = { ...request, model }
      return this.#measure(name, resolved, { kind: 'speed range', ...resolved }, (found) => ({ speeds: speedRange.parse(found) }))
    },
  }

  /** Begins a measurement. Its transfer reports the turns, and finally the fields that `read` takes from the result. */
  #measure(name: string, request: Record<string, unknown>, task: ComputeTask, read: (found: unknown) => Partial<Transfer>): Transfer {
    return this.parts.transfers.begin({ kind: 'bench', name, totalBytes: null, request }, async (signal, report) => {
      const job = this.parts.exporter.perform(task, {
        signal,
        onEvent: (event) => report({ turns: event as { done: number; total: number } }),
        fetchFile: (file, stop) => this.parts.fetchFile(file, stop, () => undefined),
      })
      report(read(await job.result))
      return null
    }).transfer
  }
}

async function requireFile(file: string): Promise<void> {
  const found = await stat(file).catch(() => undefined)
  if (!found?.isFile()) throw new EspalierError('not-found', `${file} is not a file. Give a GGUF file.`)
}
