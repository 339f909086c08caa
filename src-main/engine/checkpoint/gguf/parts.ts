import { basename, dirname, join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { resolveInside } from '#runtime/resolve-inside.ts'
import { exists } from '../regular-file.ts'

const partName = /^(.*-)(\d{5})(-of-)(\d{5})(\.gguf)$/i

/** The file that holds the metadata: the first part of a split model, whichever part is given, else the file itself. */
export function firstPart(file: string): string {
  return join(
    dirname(file),
    basename(file).replace(partName, (_whole, start: string, _number: string, of: string, count: string, end: string) =>
      [start, '00001', of, count, end].join(''),
    ),
  )
}

/** All files of a model, in order; any of them may be given. Throws `not-found` for a missing part. */
export async function partsOf(file: string): Promise<string[]> {
  const [, start, , of, count, end] = partName.exec(basename(file)) ?? []
  if (start === undefined) return [file]
  const total = Number(count)
  if (total < 1 || total > 1000)
    throw new EspalierError('invalid', `${file} says that it is one of ${total} parts; 1 to 1000 are read.`, { file })
  const names = Array.from({ length: total }, (_, index) => `${start}${String(index + 1).padStart(5, '0')}${of}${count}${end}`)
  const given = basename(file)
  const paths = await Promise.all(names.map((name) => (name === given ? file : resolveInside(dirname(file), name))))
  for (const path of paths)
    if (!(await exists(path)))
      throw new EspalierError(
        'not-found',
        `${dirname(file)} lacks ${basename(path)}, one of ${total} parts of a model. Download the missing file.`,
        {
          file: path,
        },
      )
  return paths
}
