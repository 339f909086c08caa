import { existsSync, globSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { codeIn, documents, readDocument, root } from './markdown.ts'

const contributing = 'docs/contributing.md'
const ways = ['a method', 'a family', 'a field of a run', 'an export format', 'a measure', 'a screen', 'a command', 'a call']

/** The folders that file names in a document may start from: its own folder, the ones around it, and the source trees. */
function beginningsOf(document: string): string[] {
  const folders: string[] = []
  for (let folder = dirname(document); folder !== '.'; folder = dirname(folder)) folders.push(folder)
  return document === contributing ? ['.'] : [...folders, '.', 'src-main', 'src-main/engine']
}

const looksLikeFile = /^(?:\.{1,2}\/)*[\w@-][\w.@-]*(?:\/[\w.@-]+)*\.(?:ts|mjs|svelte|css|py|h|cc|md|json)$/
const looksLikeFolder = /^(?:src-main|src-renderer|test|docs)\/[\w./-]+$/
/** Files that the program writes or reads, or of another project. */
const notOurs =
  /^(?:config|tokenizer|espalier|door|tensors|expected|request|failures|config-hub|calibration-windows|test-windows)\.json$|^modeling_espalier\.py$|\/request\.json$|^runtime|^FOLDER/

/** Names of files and folders in a document; `NAME` is the reader's own file. */
function namesIn(text: string): string[] {
  return codeIn(text).filter(
    (code) => (looksLikeFile.test(code) || looksLikeFolder.test(code)) && !code.includes('NAME') && !notOurs.test(code),
  )
}

function missingIn(document: string, text = readDocument(document)): string[] {
  const beginnings = beginningsOf(document)
  return namesIn(text).filter((name) => !beginnings.some((beginning) => existsSync(join(root, beginning, name))))
}

test.each(documents.filter((document) => !/^(README|NOTICE)/.test(document)))('every file that %s names exists', (document) => {
  expect(missingIn(document), `${document} names files that are gone. Name the files that took their place.`).toEqual([])
})

test('a file that is gone is found', () => {
  expect(missingIn(contributing, 'See `src-main/contract/gone.ts` and `src-main/contract/api.ts`.')).toEqual(['src-main/contract/gone.ts'])
  expect(missingIn(contributing, 'See `api.ts`, a file of no folder.')).toEqual(['api.ts'])
  expect(missingIn('src-main/engine/pruning/methods/README.md', '`shortgpt.ts`, `../plan.ts`, `../gone.ts`')).toEqual(['../gone.ts'])
})

test.each(ways)('there is a recipe to add %s, in numbered steps that name files', (way) => {
  const recipe =
    readDocument(contributing)
      .split(/^## /m)
      .find((part) => part.startsWith(`Add ${way}\n`)) ?? ''
  const steps = recipe.split(/^\d+\. /m).slice(1)
  expect(steps.length).toBeGreaterThan(2)
  expect(namesIn(recipe).length).toBeGreaterThan(2)
})

test('every folder of source has a README that says where to start', () => {
  const folders = [
    'src-main',
    'src-main/engine',
    'src-main/engine/pruning',
    'src-main/engine/evaluation',
    'src-main/engine/export',
    'src-renderer',
  ]
  const wanted = [...folders.flatMap((folder) => globSync(`${folder}/*/`, { cwd: root })), 'src-main/engine/checkpoint/gguf', 'test']
  const poor = wanted.filter((folder) => {
    const readme = join(folder, 'README.md')
    return !existsSync(join(root, readme)) || !/^# .+\n\n\S[\s\S]*^## Where to start$/m.test(readDocument(readme))
  })
  expect(poor).toEqual([])
})
