import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import type { FetchHubFile, HubFile } from '#contract/models/hub-file.ts'
import { type DatasetId, datasetTitles } from '#contract/titles.ts'

interface NamedDataset {
  title: string
  file: HubFile
  /** The number of documents to read, from the start. Default: all. */
  documents?: number
  /** Name of its folder inside the folder of local data sets. */
  folder: string
}

const c4 = { kind: 'dataset', repository: 'allenai/c4', revision: '607bd4c8450a42878aa9ddc051a65a055450ef87' } as const

/** The data sets of the 2SSP reference. All are joined by two newlines and cut into consecutive windows. */
export const namedDatasets = {
  wikitext2: {
    title: datasetTitles.wikitext2,
    file: { kind: 'dataset', repository: 'Salesforce/wikitext', revision: 'main', path: 'wikitext-2-raw-v1/test-00000-of-00001.parquet' },
    folder: 'wikitext-2',
  },
  'c4-train': {
    title: datasetTitles['c4-train'],
    file: { ...c4, path: 'en/c4-train.00000-of-01024.json.gz' },
    documents: 1000,
    folder: 'c4_train',
  },
  'c4-val': {
    title: datasetTitles['c4-val'],
    file: { ...c4, path: 'en/c4-validation.00000-of-00008.json.gz' },
    documents: 1100,
    folder: 'c4_val',
  },
  'fineweb-edu': {
    title: datasetTitles['fineweb-edu'],
    file: { kind: 'dataset', repository: 'HuggingFaceFW/fineweb-edu', revision: 'main', path: 'sample/10BT/000_00000.parquet' },
    // The reference loads 1,100 rows and uses the first 500.
    documents: 500,
    folder: 'fineweb-edu',
  },
} as const satisfies Record<DatasetId, NamedDataset>

export const datasetIds = Object.keys(namedDatasets) as DatasetId[]

export function isDatasetId(name: string): name is DatasetId {
  return Object.hasOwn(namedDatasets, name)
}

/** Where a data set is and how much of it to read, for `readWindows` and `readTexts`. */
export interface DatasetLocation {
  path: string
  /** The hub commit of the file; null for local data. */
  revision: string | null
  maxDocuments?: number
}

/** Finds a named data set: in its folder under `localFolder` if that is given, else as the hub's file through `fetchFile`. */
export async function locateDataset(id: DatasetId, source: { localFolder?: string; fetchFile?: FetchHubFile }): Promise<DatasetLocation> {
  const dataset: NamedDataset = namedDatasets[id]
  const limit = dataset.documents === undefined ? {} : { maxDocuments: dataset.documents }
  if (source.localFolder !== undefined) return { path: findLocal(dataset, source.localFolder), revision: null, ...limit }
  if (!source.fetchFile)
    throw new EspalierError('usage', `${dataset.title} needs the hub or a folder of local data sets. Neither was given.`)
  const path = await fetchDataset(dataset, source.fetchFile)
  return { path, revision: commitOf(path) ?? dataset.file.revision, ...limit }
}

/** Reads the commit from a path in the hub cache, which stores each file under the commit that its branch pointed to. */
function commitOf(path: string): string | undefined {
  return /[\\/]snapshots[\\/]([0-9a-f]{40})[\\/]/.exec(path)?.[1]
}

function findLocal(dataset: NamedDataset, localFolder: string): string {
  const path = join(localFolder, dataset.folder)
  if (existsSync(path)) return path
  const advice = `Put one of these there: ${fileName(dataset)}, a data set saved by save_to_disk of the Python library datasets, a .jsonl file or a .txt file.`
  throw new EspalierError('not-found', `${dataset.title} is not at ${path}. ${advice}`)
}

async function fetchDataset(dataset: NamedDataset, fetchFile: FetchHubFile): Promise<string> {
  try {
    return await fetchFile(dataset.file)
  } catch (thrown) {
    if (!(thrown instanceof EspalierError) || thrown.code !== 'unreachable') throw thrown
    throw new EspalierError(thrown.code, `${thrown.message} ${adviceFor(dataset)}`, thrown.details)
  }
}

function adviceFor(dataset: NamedDataset): string {
  return `Or put ${fileName(dataset)} into the folder ${dataset.folder} of a folder of local data sets.`
}

/** The hub file of a data set, and advice for when it cannot be downloaded. */
export function fileOfDataset(id: DatasetId): { file: HubFile; advice: string } {
  return { file: namedDatasets[id].file, advice: adviceFor(namedDatasets[id]) }
}

function fileName(dataset: NamedDataset): string {
  return dataset.file.path.split('/').at(-1) as string
}
