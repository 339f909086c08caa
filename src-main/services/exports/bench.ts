import { stat } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { fileBench, speedRange } from '#contract/exports/file-bench.ts'
import type { Calls } from '../context.ts'
import { Service } from '../service.ts'

/** Measures GGUF files in llama.cpp, of files that are there and of those that a method could make. */
export class BenchService extends Service {
  readonly calls: Calls<'bench'> = {
    'bench.files': async (request) => {
      const files = request.files.map((file) => resolve(file))
      for (const file of files) await requireFile(file)
      const name = files.map((file) => basename(file)).join(', ')
      const work = { kind: 'bench' as const, name, totalBytes: null, request: { ...request, files } }
      return this.parts.transfers.begin(work, async (signal, report) => {
        const job = this.parts.exporter.perform(
          { kind: 'bench files', ...request, files },
          {
            signal,
            onEvent: (event) => report({ turns: event as { done: number; total: number } }),
            fetchFile: (file, stop) => this.parts.fetchFile(file, stop, () => undefined),
          },
        )
        report({ bench: fileBench.parse(await job.result) })
        return null
      }).transfer
    },
    'bench.speeds': ({ model: id, ...request }) => {
      const { path: model, name } = this.parts.library.find(id)
      const work = { kind: 'bench' as const, name, totalBytes: null, request: { ...request, model } }
      return this.parts.transfers.begin(work, async (signal, report) => {
        const onEvent = (event: unknown) => report({ turns: event as { done: number; total: number } })
        const job = this.parts.exporter.perform({ kind: 'speed range', ...request, model }, { signal, onEvent })
        report({ speeds: speedRange.parse(await job.result) })
        return null
      }).transfer
    },
  }
}

async function requireFile(file: string): Promise<void> {
  const found = await stat(file).catch(() => undefined)
  if (!found?.isFile()) throw new EspalierError('not-found', `${file} is not a file. Give a GGUF file.`)
}
