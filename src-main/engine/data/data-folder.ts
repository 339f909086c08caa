import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { endingOf } from '#contract/data/text-endings.ts'
import { EspalierError } from '#contract/errors.ts'
import { resolveInside } from '#runtime/resolve-inside.ts'
import { isObject, parseObject } from '../checkpoint/json.ts'
import { readText } from '../checkpoint/regular-file.ts'
import { readChunks } from './text-file.ts'

// Files that `datasets` writes about a data set, beside its data.
const descriptions = new Set(['dataset_info.json', 'dataset_infos.json', 'state.json', 'dataset_dict.json'])

/**
 * Lists the data files of a folder in reading order: the files listed in state.json if `datasets` saved the folder, else every file with a
 * known ending, sorted by name. Without any, returns `others`. For a folder of several splits, throws an error that names the splits.
 */
export async function listDataFiles(
  folder: string,
  endings: readonly string[],
  others: () => Promise<string[]> = () => noData(folder, endings),
): Promise<string[]> {
  const names = (await readdir(folder)).sort()
  if (names.includes('dataset_dict.json')) throw await severalSplits(folder)
  const listed = names.includes('state.json') ? await readState(folder) : []
  const present = listed.filter((name) => names.includes(name))
  // If none of the listed Arrow files exists, state.json may be beside the same data in another form.
  const chosen = present.length > 0 ? listed : names.filter((name) => isData(name, endings))
  const missing = chosen.find((name) => !names.includes(name))
  if (missing !== undefined)
    throw new EspalierError('not-found', `${folder} lacks ${missing}, which state.json lists. Download the missing file.`)
  if (chosen.length === 0) return others()
  return Promise.all(chosen.map((name) => resolveInside(folder, name)))
}

/** Folders that hold no text of the user's own. */
const skippedFolders = new Set(['node_modules', 'venv', '__pycache__', 'dist', 'build', 'target'])

/**
 * Lists all files of text and source code in a folder and its subfolders, sorted by path. Skips hidden files, links, folders of installed
 * or built files, and JSON files that hold no array. Throws if there are none.
 */
export async function listTextFiles(folder: string, endings: readonly string[]): Promise<string[]> {
  const found: string[] = []
  const search = async (inner: string): Promise<void> => {
    for (const entry of (await readdir(join(folder, inner), { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const path = join(inner, entry.name)
      if (entry.name.startsWith('.')) continue
      if (entry.isDirectory() && !skippedFolders.has(entry.name)) await search(path)
      if (entry.isFile() && isData(entry.name, endings)) found.push(path)
      if (found.length > mostFiles)
        throw new EspalierError(
          'invalid',
          `${folder} has more than ${mostFiles.toLocaleString('en')} files of text. Choose a smaller folder.`,
        )
    }
  }
  await search('')
  const files = found.map((path) => join(folder, path))
  const holds = await Promise.all(files.map(async (file) => !/\.json$/i.test(file) || (await startsWithArray(file))))
  const chosen = files.filter((_, index) => holds[index])
  if (chosen.length > 0) return chosen
  return noData(folder, endings.slice(0, mostNamed), ' or source code')
}

const mostFiles = 20_000
/** Endings that an error names. */
const mostNamed = 8

async function noData(folder: string, endings: readonly string[], others = ''): Promise<never> {
  throw new EspalierError(
    'not-found',
    `${folder} has no data. Put files ending in ${endings.map((ending) => `.${ending}`).join(', ')}${others} there.`,
  )
}

async function startsWithArray(file: string): Promise<boolean> {
  for await (const chunk of readChunks(file)) {
    const text = chunk.trimStart()
    if (text !== '') return text.startsWith('[')
  }
  return false
}

function isData(name: string, endings: readonly string[]): boolean {
  if (name.startsWith('.') || descriptions.has(name) || /^readme|^license|^source\.txt$/i.test(name)) return false
  return endings.includes(endingOf(name))
}

async function readState(folder: string): Promise<string[]> {
  const file = join(folder, 'state.json')
  const files = parseObject(await readText(file), file)._data_files
  if (!Array.isArray(files)) return []
  return files.map((entry: unknown) => {
    if (isObject(entry) && typeof entry.filename === 'string') return entry.filename
    throw new EspalierError('invalid', `${file} lists a data file without a filename. Save the data set again.`, { file })
  })
}

async function severalSplits(folder: string): Promise<EspalierError> {
  const file = join(folder, 'dataset_dict.json')
  const { splits } = parseObject(await readText(file), file)
  const paths = Array.isArray(splits) ? splits.map((split) => join(folder, String(split))).join(', ') : 'one of its folders'
  return new EspalierError('invalid', `${folder} holds several splits. Choose one of them: ${paths}.`, { file })
}
