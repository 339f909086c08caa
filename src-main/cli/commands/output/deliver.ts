import { writeFile } from 'node:fs/promises'
import { EspalierError } from '#contract/errors.ts'

/** Writes to standard output, or to a new file. Throws if the file exists. */
export async function deliver(content: string, file: string | undefined): Promise<void> {
  if (file === undefined) {
    process.stdout.write(content.endsWith('\n') ? content : `${content}\n`)
    return
  }
  await writeFile(file, content, { flag: 'wx' }).catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code === 'EEXIST') throw new EspalierError('conflict', `${file} exists. Choose another name or remove it.`)
    throw new EspalierError('disk', `${file} cannot be written: ${thrown.message}`)
  })
  console.error(`Wrote ${file}.`)
}
