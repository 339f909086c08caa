import { basename } from 'node:path'
import { at } from '#contract/at.ts'
import type { BeginChoice, BeginFigures, UsedBegin } from '#contract/data/begin-token.ts'
import { EspalierError } from '#contract/errors.ts'
import type { BenchRequest, FileBench } from '#contract/exports/file-bench.ts'
import type { FetchHubFile } from '#contract/models/hub-file.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { readData } from '#engine/data/read-data.ts'
import type { Windows } from '#engine/data/windows.ts'
import { compareBegin, decideBegin } from '#engine/evaluation/begin-token.ts'
import { type BenchSettings, benchFiles, hasUnreadWindows } from '#engine/llama/bench-files.ts'
import { LlamaProcess } from '#engine/llama/llama-process.ts'
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
export async function executeBench(
  { files, texts, beginToken = 'reference', prompts, threads, ...rest }: BenchRequest,
  host: BenchHost,
): Promise<FileBench> {
  const machine = { ...rest, threads: threads ?? ownThreads() }
  const read = texts.length === 0 ? { texts: [] } : await readTexts(files, { texts, beginToken, ...machine }, host)
  const settings = { ...machine, prompts: [...new Set(prompts)].sort((a, b) => a - b), texts: read.texts }
  const bench = await benchFiles(files, settings, {
    signal: host.signal,
    progress: (done, total) => host.emit({ done, total }),
  })
  return { ...bench, ...(read.begin && beginToken !== 'reference' ? { beginToken: read.begin } : {}) }
}

interface Wanted extends Pick<BenchSettings, 'threads' | 'device'> {
  readonly texts: BenchRequest['texts']
  readonly beginToken: BeginChoice
}

async function readTexts(
  files: readonly string[],
  { texts, beginToken, ...machine }: Wanted,
  { signal, fetchFile }: BenchHost,
): Promise<{ texts: BenchSettings['texts']; begin?: UsedBegin }> {
  const specs = []
  for (const path of files) specs.push(await readableSpec(path))
  const [path, spec] = [at(files, 0), at(specs, 0)]
  const tokenizer = await openModelTokenizer({ path, spec })
  const report = { signal, progress: () => undefined }
  const begin = await decideBegin(beginToken, { spec, tokenizer }, (windows, id) => measureFile(path, windows, id, machine, signal))
  const sources = { fetchFile, report, begin: begin.id }
  const read = texts.map(async ({ name, data }) => ({ name, windows: (await readData({ spec }, tokenizer, data, 0, sources)).windows }))
  return { texts: await Promise.all(read), begin: begin.used }
}

/** Measures in llama.cpp what `auto` decides by. */
async function measureFile(
  path: string,
  windows: Windows,
  id: number,
  machine: Pick<Wanted, 'threads' | 'device'>,
  signal: AbortSignal,
): Promise<BeginFigures> {
  const llama = new LlamaProcess(signal)
  try {
    await llama.ask('open', path, { context: 1 + Math.max(...windows.map(({ length }) => length)), ...machine })
    return await compareBegin(windows, id, async (from, skipped) => {
      let [sum, count] = [0, 0]
      for (const window of from) {
        sum += await llama.ask('loss', window, 1 + skipped)
        count += window.length - 1 - skipped
      }
      return sum / count
    })
  } finally {
    llama.end()
  }
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
