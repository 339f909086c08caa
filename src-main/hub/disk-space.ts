import { mkdir, statfs } from 'node:fs/promises'
import { EspalierError } from '#contract/errors.ts'

/** Free space left for the rest of the system after a download. */
const reserveBytes = 200_000_000

export async function freeBytes(folder: string): Promise<number> {
  await mkdir(folder, { recursive: true })
  const { bavail, bsize } = await statfs(folder)
  return bavail * bsize
}

/** Throws before anything is written if the disk has too little space. */
export function checkSpace(free: number, needed: number, folder: string, what: string): void {
  if (needed === 0 || free >= needed + reserveBytes) return
  const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB`
  const advice = 'Free some space or choose another cache folder (HF_HOME, or in the settings).'
  throw new EspalierError('disk', `${what} needs ${gigabytes(needed)} more at ${folder}, where ${gigabytes(free)} are free. ${advice}`, {
    needed,
    free,
  })
}
