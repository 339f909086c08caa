import { EspalierError } from '#contract/errors.ts'
import type { FetchHubFile } from '#contract/hub-file.ts'
import type { DataRequest } from '#contract/run-request.ts'
import { type DatasetLocation, isDatasetId, locateDataset } from '#engine/data/named.ts'
import { readWindows, type Windows } from '#engine/data/windows.ts'
import type { Model } from '#engine/model/model.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'

/** Where the data of a run comes from besides plain paths. */
export interface DataSources {
  /** Folder of data sets kept locally; those asked for by name are read from it. */
  readonly localFolder?: string | undefined
  readonly fetchFile?: FetchHubFile | undefined
}

/** The windows that a request names, checked against the model's vocabulary. */
export async function requestedWindows(
  model: Model,
  tokenizer: Tokenizer | undefined,
  data: DataRequest,
  sources: DataSources,
): Promise<Windows> {
  const found = await locate(data.source, sources)
  const { windows } = await readWindows(found.path, tokenizer, {
    sequenceLength: data.sequenceLength,
    ...(data.windows === undefined ? {} : { maxWindows: data.windows }),
    ...(found.maxDocuments === undefined ? {} : { maxDocuments: found.maxDocuments }),
    ...(data.shuffleSeed === undefined ? {} : { shuffleSeed: data.shuffleSeed }),
  })
  const { vocabulary } = model.spec
  for (const window of windows) {
    const bad = window.find((id) => id >= vocabulary)
    if (bad === undefined) continue
    throw new EspalierError(
      'invalid',
      `${found.path} holds token id ${bad}; the model's vocabulary ends at ${vocabulary - 1}. Encode the text with this model's tokenizer.`,
    )
  }
  return windows
}

function locate(source: string, { localFolder, fetchFile }: DataSources): DatasetLocation | Promise<DatasetLocation> {
  if (!isDatasetId(source)) return { path: source }
  return locateDataset(source, { ...(localFolder === undefined ? {} : { localFolder }), ...(fetchFile ? { fetchFile } : {}) })
}

/** Names a request's data, so that steps on the same data are found again. */
export function nameData(model: string, data: DataRequest | undefined): string {
  return [model, data?.source, data?.sequenceLength, data?.windows, data?.shuffleSeed].join('|')
}
