import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { EspalierError } from '#contract/errors.ts'
import type { HubFile } from '#contract/models/hub-file.ts'
import { datasetIds, locateDataset } from '#engine/data/named.ts'
import { scratchOfTest } from '../../fixtures/scratch.ts'

let folder: string
beforeEach(() => {
  folder = scratchOfTest('named')
})

test('each data set asks for the reference’s file and takes the reference’s count', async () => {
  const asked: string[] = []
  const fetchFile = async (file: HubFile) => {
    asked.push(`${file.repository}@${file.revision.slice(0, 8)}/${file.path}`)
    return '/somewhere'
  }
  const found = await Promise.all(datasetIds.map((id) => locateDataset(id, { fetchFile })))
  expect(asked).toEqual([
    'Salesforce/wikitext@main/wikitext-2-raw-v1/test-00000-of-00001.parquet',
    'allenai/c4@607bd4c8/en/c4-train.00000-of-01024.json.gz',
    'allenai/c4@607bd4c8/en/c4-validation.00000-of-00008.json.gz',
    'HuggingFaceFW/fineweb-edu@main/sample/10BT/000_00000.parquet',
  ])
  expect(found.map((location) => location.maxDocuments)).toEqual([undefined, 1000, 1100, 500])
})

test('a file of the hub is recorded with the commit of its branch', async () => {
  const commit = 'b08601e04326c79dfdd32d625aee71d232d685c3'
  const fetchFile = () => Promise.resolve(join(folder, 'datasets--Salesforce--wikitext', 'snapshots', commit, 'test.parquet'))
  expect((await locateDataset('wikitext2', { fetchFile })).revision).toBe(commit)
})

test('local data sets are read from the reference’s folders with the same counts, and the hub is not asked', async () => {
  mkdirSync(join(folder, 'c4_val'))
  const fetchFile = () => Promise.reject(new Error('asked'))
  expect(await locateDataset('c4-val', { localFolder: folder, fetchFile })).toEqual({
    path: join(folder, 'c4_val'),
    revision: null,
    maxDocuments: 1100,
  })
})

test('a data set that is neither local nor reachable names the file and the place to put it', async () => {
  await expect(locateDataset('wikitext2', { localFolder: folder })).rejects.toThrow(
    /wikitext-2\. Put one of these there: test-00000-of-00001\.parquet, /,
  )
  const fetchFile = () => Promise.reject(new EspalierError('unreachable', 'No network.'))
  await expect(locateDataset('c4-train', { fetchFile })).rejects.toThrow(
    'No network. Or put c4-train.00000-of-01024.json.gz into the folder c4_train of a folder of local data sets.',
  )
})
