import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { refuseLinksOut } from '#runtime/resolve-inside.ts'
import { openRegular } from '#runtime/small-file.ts'
import { readBytes } from './regular-file.ts'

/** Finds the checkpoint at a path: a folder of safetensors, a GGUF file, or the only GGUF file in a folder. */
export async function locateCheckpoint(path: string): Promise<{ kind: 'folder' | 'gguf'; place: string }> {
  const found = await stat(path).catch(() => undefined)
  if (!found)
    throw new EspalierError('not-found', `${path} does not exist. Give a folder with config.json and safetensors, or a gguf file.`)
  if (found.isDirectory()) {
    await refuseLinksOut(path)
    const file = await onlyGguf(path)
    return file ? { kind: 'gguf', place: file } : { kind: 'folder', place: path }
  }
  if (path.toLowerCase().endsWith('.gguf') || (await beginsAsGguf(path))) return { kind: 'gguf', place: path }
  throw new EspalierError('invalid', `${path} is neither a model folder nor a gguf file. Give a folder with config.json and safetensors.`)
}

/** The only GGUF file of a folder without config.json; undefined if there is none. The parts of a split file count as one file. */
async function onlyGguf(folder: string): Promise<string | undefined> {
  const names = await readdir(folder)
  const files = names.filter((name) => /\.gguf$/i.test(name) && !/-(?!00001)\d{5}-of-\d{5}\.gguf$/i.test(name))
  if (names.includes('config.json') || files.length === 0) return undefined
  if (files.length > 1)
    throw new EspalierError('invalid', `${folder} has several GGUF files: ${files.sort().join(', ')}. Choose one of them.`)
  return join(folder, files[0] as string)
}

/** Whether a file starts like a GGUF file. Ollama stores GGUF files without the ending `.gguf`. */
async function beginsAsGguf(path: string): Promise<boolean> {
  const handle = await openRegular(path)
  try {
    return (await handle.stat()).size > 4 && Buffer.from(await readBytes(handle, 0, 4, path)).toString() === 'GGUF'
  } finally {
    await handle.close()
  }
}
