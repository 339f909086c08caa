import { availableParallelism } from 'node:os'
import type { BenchRequest, FileBench } from '#contract/exports/file-bench.ts'
import type { FetchHubFile } from '#contract/models/hub-file.ts'
import { readData } from '#engine/data/read-data.ts'
import { type BenchSettings, benchFiles } from '#engine/llama/bench-files.ts'
import { openModelTokenizer } from '#engine/model/kept-model.ts'
import { openSpec } from '#engine/model/model.ts'

interface BenchHost {
  readonly signal: AbortSignal
  readonly fetchFile?: FetchHubFile
  emit(event: unknown): void
}

/** Measures files in llama.cpp. Texts are cut into windows with the first file's tokenizer. */
export async function executeBench({ files, texts, prompts, threads, ...rest }: BenchRequest, host: BenchHost): Promise<FileBench> {
  const [first = ''] = files
  const settings = {
    ...rest,
    prompts: [...new Set(prompts)].sort((a, b) => a - b),
    threads: threads ?? availableParallelism(),
    texts: texts.length === 0 ? [] : await readTexts(first, texts, host),
  }
  return benchFiles(files, settings, {
    signal: host.signal,
    progress: (done, total) => host.emit({ done, total }),
  })
}

async function readTexts(path: string, texts: BenchRequest['texts'], { signal, fetchFile }: BenchHost): Promise<BenchSettings['texts']> {
  const { checkpoint, spec } = await openSpec(path)
  await checkpoint.close()
  const tokenizer = await openModelTokenizer({ path, spec })
  const report = { signal, progress: () => undefined }
  return Promise.all(
    texts.map(async ({ name, data }) => ({ name, windows: (await readData({ spec }, tokenizer, data, 0, { fetchFile, report })).windows })),
  )
}
