import { basename, dirname, join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { resolveInside } from '#runtime/resolve-inside.ts'
import { exists } from '../regular-file.ts'

const partName = /^(.*-)(\d{5})(-of-)(\d{5})(\.gguf)$/i

/** The file with the metadata: the first part if `file` is any part of a split model, otherwise `file` itself. */
export function firstPart(file: string): string {
  return join(
    dirname(file),
    basename(file).replace(partName, (_whole, start: string, _number: string, of: string, count: string, end: string) =>
      [start, '00001', of, count, end].join(''),
    ),
  )
}

/** Lists all files of a model in order, given any of them. Throws `not-found` if a part is missing. */
export async function partsOf(file: string): Promise<string[]> {
  const [, start, , of, count, end] = partName.exec(basename(file)) ?? []
  if (start === undefined) return [file]
  const total = Number(count)
  if (total < 1 || total > 1000)
    throw new EspalierError('invalid', `${file} is named as one of ${total} parts; 1 to 1,000 are supported.`, { file })
  const names = Array.from({ length: total }, (_, index) => `${start}${String(index + 1).padStart(5, '0')}${of}${count}${end}`)
  const given = basename(file)
  const paths = await Promise.all(names.map((name) => (name === given ? file : resolveInside(dirname(file), name))))
  for (const path of paths)
    if (!(await exists(path)))
      throw new EspalierError(
        'not-found',
        `${dirname(file)} lacks ${basename(path)}, one of the model's ${total} parts. Download the missing file.`,
        {
          file: path,
        },
      )
  return paths
}
