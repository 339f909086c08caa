import type { FileHandle } from 'node:fs/promises'
import { openRegular } from '#runtime/small-file.ts'
import { allowFor } from '../../limits/reading.ts'
import { readPart } from '../regular-file.ts'
import { parseHeader, readHeaderLength, type StoredTensor } from './safetensors-header.ts'

/** An open safetensors file whose header has been checked. */
export interface SafetensorsFile {
  readonly file: string
  readonly tensors: ReadonlyMap<string, StoredTensor>
  readonly handle: FileHandle
}

/** Opens one safetensors file and checks its whole header. The caller closes `handle`. */
export async function openSafetensors(file: string): Promise<SafetensorsFile> {
  const handle = await openRegular(file)
  try {
    const { size } = await handle.stat()
    const length = readHeaderLength(await readPart(handle, 0, Math.min(8, size), file), size, file)
    allowFor(length)
    return { file, tensors: parseHeader(await readPart(handle, 8, length, file), size, file), handle }
  } catch (error) {
    await handle.close()
    throw error
  }
}
