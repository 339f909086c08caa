import { appendFile, copyFile, cp, mkdir, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { tableFromArrays, tableToIPC } from 'apache-arrow'
import { describe, expect, it } from 'vitest'
import { EspalierError } from '#contract/errors.ts'
import { openSource, readTexts } from '#engine/data/source.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const fixtures = join(import.meta.dirname, '../../fixtures/texts')
const seven = Array.from({ length: 7 }, (_, i) => `Document ${i}: naïve café, line one\nline two.`)
const place = scratchFolder('source')

async function write(name: string, content: string | Uint8Array): Promise<string> {
  const file = join(place, name)
  await writeFile(file, content)
  return file
}

const lines = seven.map((text) => JSON.stringify({ text, id: 1 })).join('\n')

describe('readTexts', () => {
  const forms: [string, string | Uint8Array][] = [
    ['lines.jsonl', `${lines}\n`],
    ['windows.jsonl', lines.replaceAll('\n', '\r\n\r\n')],
    ['content.ndjson', lines.replaceAll('"text"', '"content"')],
    ['lines.json', lines],
    ['lines.jsonl.gz', gzipSync(lines)],
    ['c4-train.00000-of-01024.json.gz', gzipSync(lines)],
    ['strings.json', JSON.stringify(seven, undefined, 2)],
    ['objects.json', `\uFEFF ${JSON.stringify(seven.map((text) => ({ text })))}`],
    ['objects.json.gz', gzipSync(JSON.stringify(seven.map((content) => ({ content }))))],
    ['table.arrow', tableToIPC(tableFromArrays({ id: [1, 2, 3, 4, 5, 6, 7], text: seven }), 'stream')],
    ['file.arrow', tableToIPC(tableFromArrays({ text: seven }), 'file')],
  ]
  for (const [name, content] of forms) {
    it(`reads the same documents from ${name}`, async () => expect(await readTexts(await write(name, content))).toEqual(seven))
  }

  for (const name of ['seven.snappy.parquet', 'seven.zstd.parquet', 'seven.gzip.parquet', 'saved']) {
    it(`reads the same documents from ${name}`, async () => expect(await readTexts(join(fixtures, name))).toEqual(seven))
  }

  it('takes a text file as one document, unchanged', async () => {
    const text = 'One\r\n\r\ntwo \u2028 naïve\n'
    expect(await readTexts(await write('text.txt', text))).toEqual([text])
    expect(await readTexts(await write('text.txt.gz', gzipSync(text)))).toEqual([text])
  })

  it('keeps characters whole across the border of two reads', async () => {
    const text = `a${'é😀'.repeat(300_000)}`
    expect(await readTexts(await write('long.txt', text))).toEqual([text])
    expect(await readTexts(await write('long.jsonl.gz', gzipSync(JSON.stringify({ text }))))).toEqual([text])
  })

  it('does not count an empty text as a document', async () => {
    expect(await readTexts(await write('null.jsonl', '{"text": null}\n"plain"'))).toEqual(['', 'plain'])
  })

  it('stops after the documents asked for, before what is wrong after them', async () => {
    const file = await write('limit.jsonl', `${lines}\nnot json`)
    expect(await readTexts(file, { maxDocuments: 3 })).toEqual(seven.slice(0, 3))
    expect(await readTexts(file, { maxDocuments: 0 })).toEqual([])
    expect(await readTexts(join(fixtures, 'seven.snappy.parquet'), { maxDocuments: 4 })).toEqual(seven.slice(0, 4))
  })
})

describe('a folder', () => {
  it('gives its files in the order of their names, whatever their form, without descriptions', async () => {
    const folder = join(place, 'mixed')
    await mkdir(folder)
    await writeFile(join(folder, 'b.jsonl'), '{"text": "second"}')
    await writeFile(join(folder, 'a.txt'), 'first')
    await copyFile(join(fixtures, 'seven.snappy.parquet'), join(folder, 'c.parquet'))
    for (const name of ['README.md', 'dataset_info.json', '.hidden.txt', 'LICENSE.txt']) await writeFile(join(folder, name), '{}')
    expect(await readTexts(folder)).toEqual(['first', 'second', ...seven])
  })

  it('that datasets saved may hold the data in another form', async () => {
    const folder = join(place, 'other-form')
    await cp(join(fixtures, 'saved'), folder, { recursive: true })
    for (const name of ['data-00000-of-00002.arrow', 'data-00001-of-00002.arrow']) await rm(join(folder, name))
    await writeFile(join(folder, 'data.jsonl.gz'), gzipSync(lines))
    expect(await readTexts(folder)).toEqual(seven)
  })

  it('inside a snapshot of the Hugging Face cache holds links into the blobs', async () => {
    const repository = join(place, 'datasets--a--b')
    const folder = join(repository, 'snapshots', 'abc', 'data')
    await mkdir(folder, { recursive: true })
    await mkdir(join(repository, 'blobs'))
    await copyFile(join(fixtures, 'seven.zstd.parquet'), join(repository, 'blobs', '0a'))
    await symlink('../../../blobs/0a', join(folder, 'train.parquet'))
    expect(await readTexts(folder)).toEqual(seven)
  })

  it('of one file of token ids is windows', async () => {
    const folder = join(place, 'ids')
    await mkdir(folder)
    await writeFile(join(folder, 'windows.json'), '[[1, 2], [3, 4]]')
    expect(await openSource(folder)).toEqual({ kind: 'windows', windows: [Int32Array.of(1, 2), Int32Array.of(3, 4)] })
    await expect(readTexts(folder)).rejects.toThrow(/holds token ids/)
    await writeFile(join(folder, 'more.txt'), 'text')
    await expect(readTexts(folder)).rejects.toThrow(/is in a folder with other files/)
  })
})

describe('broken data', () => {
  async function saved(name: string, change: (folder: string) => Promise<unknown>): Promise<string> {
    const folder = join(place, name)
    await cp(join(fixtures, 'saved'), folder, { recursive: true })
    await change(folder)
    return folder
  }
  async function cut(source: string, bytes: number): Promise<string> {
    const file = join(place, `cut-${bytes}-${basename(source)}`)
    await copyFile(source, file)
    await truncate(file, bytes)
    return file
  }
  const arrow = join(fixtures, 'saved/data-00000-of-00002.arrow')
  const parquet = join(fixtures, 'seven.snappy.parquet')
  const zipped = gzipSync(lines)

  const cases: [string, () => Promise<string>, RegExp][] = [
    ['nothing there', async () => join(place, 'nothing'), /nothing does not exist\. Give a text/],
    ['an unknown ending', () => write('table.csv', 'a,b'), /does not read. Use one of .txt/],
    ['no ending', () => write('data', 'a'), /does not read/],
    ['an ending that is a method of objects', () => write('a.toString', 'a'), /does not read/],
    ['gzip cut off', () => write('cut.jsonl.gz', zipped.subarray(0, zipped.length - 20)), /not valid gzip/],
    ['gzip that is none', () => write('none.txt.gz', 'plain text'), /not valid gzip/],
    ['text that is not UTF-8', () => write('latin.txt', Buffer.from('caf\xe9 au lait', 'latin1')), /not UTF-8/],
    ['text that ends inside a character', () => write('half.txt', Buffer.from('é').subarray(0, 1)), /not UTF-8/],
    ['a line that is not JSON', () => write('line.jsonl', '{"text": "a"}\n\n{"text": "b"'), /Line 3 of .* is not JSON/],
    [
      'a line without text',
      () => write('field.jsonl', '{"text": "a"}\n{"body": "b"}'),
      /Line 2 of .* no field "text" or "content"; its fields are body/,
    ],
    [
      'a line whose text is a number',
      () => write('number.jsonl', '{"text": 5}'),
      /Line 1 of .*: the field "text" is 5; it must be a string/,
    ],
    ['a line that is a number', () => write('bare.jsonl', '5'), /Line 1 of .* is 5/],
    ['an empty JSON file', () => write('empty.json', ' \n'), /is empty/],
    ['an empty array', () => write('none.json', '[]'), /empty array/],
    ['an array that is not closed', () => write('open.json', '["a", "b"'), /is not JSON/],
    ['an array of different things', () => write('mixed.json', '["a", 5]'), /Item 1 of .* is 5/],
    ['Parquet cut off', () => cut(parquet, 1500), /cannot be read as a Parquet file/],
    ['Parquet of no bytes', () => write('empty.parquet', ''), /cannot be read as a Parquet file/],
    ['Parquet without text', () => copyWithout('text.parquet'), /no column "text" or "content"; its columns are id, tex_/],
    ['Arrow cut inside a batch', () => cut(arrow, 500), /cut off/],
    ['Arrow cut before its end mark', async () => cut(arrow, (await readFile(arrow)).length - 8), /cut off/],
    ['Arrow of no bytes', () => write('empty.arrow', ''), /cut off, or not an Arrow file/],
    [
      'Arrow whose middle is garbage',
      () => write('garbage.arrow', Buffer.from(`${'x'.repeat(400)}ARROW1`)),
      /cannot be read as an Arrow file/,
    ],
    ['Arrow without text', () => write('ints.arrow', tableToIPC(tableFromArrays({ a: [1, 2] }), 'stream')), /its columns are a/],
    [
      'Arrow whose text is numbers',
      () => write('numbers.arrow', tableToIPC(tableFromArrays({ text: [1, 2] }), 'stream')),
      /has a number in column "text"/,
    ],
    ['an empty folder', async () => (await mkdir(join(place, 'empty'), { recursive: true })) ?? join(place, 'empty'), /has no data/],
    [
      'a saved folder that lacks a file',
      () => saved('lacks', (folder) => rm(join(folder, 'data-00001-of-00002.arrow'))),
      /lacks data-00001/,
    ],
    [
      'a saved folder whose file links out of it',
      () =>
        saved('links', async (folder) => {
          await rename(join(folder, 'data-00000-of-00002.arrow'), join(place, 'away.arrow'))
          await symlink('../away.arrow', join(folder, 'data-00000-of-00002.arrow'))
        }),
      /is a link to/,
    ],
    [
      'a saved folder whose state names a path',
      () =>
        saved('path', (folder) =>
          writeFile(join(folder, 'state.json'), '{"_data_files": [{"filename": "../a.arrow"}, {"filename": "data-00000-of-00002.arrow"}]}'),
        ),
      /lacks \.\.\/a\.arrow/,
    ],
    [
      'a saved folder whose state is broken',
      () => saved('state', (folder) => appendFile(join(folder, 'state.json'), '}')),
      /state.json is not JSON/,
    ],
    [
      'a folder of splits',
      () => saved('splits', (folder) => writeFile(join(folder, 'dataset_dict.json'), '{"splits": ["train", "test"]}')),
      /several splits.*train, .*test\./,
    ],
  ]
  for (const [name, make, says] of cases) {
    it(`gives one error that says what is wrong: ${name}`, async () => {
      const error = await readTexts(await make()).catch((thrown: unknown) => thrown)
      expect(error).toBeInstanceOf(EspalierError)
      const { message } = error as EspalierError
      expect(message).toMatch(says)
      expect(message).toMatch(/\.$/)
      expect(message).not.toContain('\n')
    })
  }

  /** The Parquet file with its column renamed to a name of the same length. */
  async function copyWithout(name: string): Promise<string> {
    const bytes = await readFile(parquet)
    for (let at = bytes.indexOf('text'); at >= 0; at = bytes.indexOf('text', at + 1)) bytes.write('tex_', at)
    return write(name, bytes)
  }
})
