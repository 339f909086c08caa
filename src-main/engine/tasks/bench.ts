import { basename } from 'node:path'
import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { BenchRequest, FileBench } from '#contract/exports/file-bench.ts'
import type { FetchHubFile } from '#contract/models/hub-file.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { readData } from '#engine/data/read-data.ts'
import { type BenchSettings, benchFiles } from '#engine/llama/bench-files.ts'
import { hasUnreadWindows } from '#engine/llama/unread-windows.ts'
import { openModelTokenizer } from '#engine/model/kept-model.ts'
import { openSpec } from '#engine/model/model.ts'
import { ggmlRelease } from '#runtime/ggml.mjs'
import { ownThreads } from '#runtime/threads.ts'

interface BenchHost {
  readonly signal: AbortSignal
  readonly fetchFile?: FetchHubFile
  emit(event: unknown): void
}

/** Measures files in llama.cpp. Texts are cut into windows with the first file's tokenizer. */
export async function executeBench({ files, texts, prompts, threads, ...rest }: BenchRequest, host: BenchHost): Promise<FileBench> {
  const settings = {
    ...rest,
    prompts: [...new Set(prompts)].sort((a, b) => a - b),
    threads: threads ?? ownThreads(),
    texts: texts.length === 0 ? [] : await readTexts(files, texts, host),
  }
  return benchFiles(files, settings, {
    signal: host.signal,
    progress: (done, total) => host.emit({ done, total }),
  })
}

async function readTexts(
  files: readonly string[],
  texts: BenchRequest['texts'],
  { signal, fetchFile }: BenchHost,
): Promise<BenchSettings['texts']> {
  const specs = []
  for (const path of files) specs.push(await readableSpec(path))
  const [path, spec] = [at(files, 0), at(specs, 0)]
  const tokenizer = await openModelTokenizer({ path, spec })
  const report = { signal, progress: () => undefined }
  return Promise.all(
    texts.map(async ({ name, data }) => ({ name, windows: (await readData({ spec }, tokenizer, data, 0, { fetchFile, report })).windows })),
  )
}

/** Reads the spec of a file. Throws if llama.cpp would compute a wrong perplexity for the file. */
async function readableSpec(path: string): Promise<DecoderSpec> {
  const { checkpoint, spec } = await openSpec(path)
  await checkpoint.close()
  if (hasUnreadWindows(spec))
    throw new EspalierError(
      'invalid',
      `llama.cpp cannot measure the perplexity of ${basename(path)}: blocks were removed, and its release ${ggmlRelease} assumes the family's own order of sliding windows. Leave out --text, and measure perplexity with a run.`,
    )
  return spec
}
