/** llama.cpp's own quantiser, in a separate process because a failed assertion would end it. `node llama-quantiser.ts JOBS.json` */
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { argv, execPath, stderr } from 'node:process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import koffi from 'koffi'
import { openLibrary } from '#engine/backend/ggml/ggml-library.ts'

export interface QuantiseJob {
  readonly from: string
  readonly to: string
  /** `general.file_type` of the mix. */
  readonly fileType: number
  /** Importance of each column, by tensor. */
  readonly importances?: Readonly<Record<string, readonly number[]>>
}

/** Makes llama.cpp write files, all in one process. Throws with its output if it refuses one. */
export async function quantiseByLlama(jobs: readonly QuantiseJob[], folder: string): Promise<void> {
  const place = join(folder, 'jobs.json')
  await writeFile(place, JSON.stringify(jobs))
  await promisify(execFile)(execPath, ['--disable-warning=ExperimentalWarning', fileURLToPath(import.meta.url), place])
}

function quantiseAll(jobs: readonly QuantiseJob[]): void {
  const entry = koffi.struct('llama_model_imatrix_data', { name: 'char *', data: 'float *', size: 'size_t' })
  const params = koffi.struct('llama_model_quantize_params', {
    ...Object.fromEntries(['nthread', 'ftype', 'output_type', 'embedding_type'].map((name) => [name, 'int32_t'])),
    ...Object.fromEntries(
      ['allow_requantize', 'quantize_output', 'only_copy', 'pure', 'keep_split', 'dry_run'].map((name) => [name, 'bool']),
    ),
    ...Object.fromEntries(['imatrix', 'kv_overrides', 'tt_overrides', 'prune_layers'].map((name) => [name, 'void *'])),
    max_buf_size: 'size_t',
  })
  const llama = openLibrary('llama.cpp')
  const usual = llama.func('llama_model_quantize_params llama_model_quantize_default_params()')
  const quantise = llama.func('llama_model_quantize', 'uint32_t', ['const char *', 'const char *', koffi.pointer(params)])
  for (const { from, to, fileType, importances } of jobs) {
    const asked = { ...(usual() as Record<string, unknown>), nthread: 2, ftype: fileType }
    if (importances) {
      const entries = Object.entries(importances).map(([name, values]) => ({ name, data: Float32Array.from(values), size: values.length }))
      const list = koffi.alloc(entry, entries.length + 1)
      koffi.encode(list, koffi.array(entry, entries.length + 1), [...entries, { name: null, data: null, size: 0 }])
      Object.assign(asked, { imatrix: list })
    }
    // A failed assertion ends the process; the last such line then names the file.
    stderr.write(`writing ${to}\n`)
    if (quantise(from, to, asked) !== 0) throw new Error(`llama.cpp refused to write ${to}.`)
  }
}

if (argv[1] === fileURLToPath(import.meta.url)) quantiseAll(JSON.parse(await readFile(argv[2] as string, 'utf8')) as QuantiseJob[])
