/** Commands that the documents show: a script that was renamed, or one that only a newer Node can run, is found here. */
import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { commands } from '#cli/commands/index.ts'
import { chooseScript } from '../src-main/setup/scripts.mjs'

const root = join(import.meta.dirname, '..')
const ignored = new Set(['node_modules', 'out', 'dist', 'data', 'test-results'])
const documents = globSync('**/*.md', { cwd: root, exclude: (path) => ignored.has(path.split('/')[0] ?? '') }).sort()
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> }

/** Commands in a document's code, inline and in blocks, without their comments. */
function shownIn(document: string): string[] {
  const text = readFileSync(join(root, document), 'utf8')
  const blocks = [...text.matchAll(/^```[^\n]*\n(.*?)^```/gms)].flatMap(([, block = '']) => block.split('\n'))
  const inline = [...text.replace(/^```.*?^```/gms, '').matchAll(/`([^`\n]+)`/g)].map(([, code = '']) => code)
  return [...blocks, ...inline]
    .flatMap((line) => line.replace(/ # .*|\s{2,}#.*/, '').split(/\s&&\s/))
    .map((line) => line.trim().replace(/^\$ /, ''))
    .filter((line) => /^(npm|node|espalier)\s/.test(line))
}

/** What is wrong with a command; undefined when it can be run as shown. */
function refuse(command: string): string | undefined {
  const [program, ...words] = command.replaceAll(/[[\]]/g, '').split(/\s+/)
  if (program === 'espalier') return refuseEspalier(words)
  if (program === 'node') return refuseFile(words)
  const [verb = '', ...rest] = words.filter((word) => word !== '-s')
  if (verb !== 'run') return verb in scripts || ['ci', 'install', 'link', 'pack'].includes(verb) ? undefined : `npm has no ${verb}`
  const [name = '', dashes, ...given] = rest
  const script = scripts[name]
  if (!script) return `package.json has no script ${name}`
  if (name === 'espalier') return refuseEspalier(given)
  if (dashes !== undefined && dashes !== '--') return 'npm keeps for itself what is not behind --'
  const [, place] = /run-script\.mjs (\S+)$/.exec(script) ?? []
  const isPlaceholder = /^[A-Z]+$/.test(given[0] ?? '')
  return place && !isPlaceholder ? refuseScript(place, given) : undefined
}

/** Set-up runs on the Node that the README asks for, which does not know TypeScript. */
function refuseFile(words: string[]): string | undefined {
  const file = words.find((word) => !word.startsWith('-')) ?? ''
  if (!existsSync(join(root, file))) return `${file} does not exist`
  return file.endsWith('.ts') ? `Node 20 cannot run ${file}: give it a command in package.json` : undefined
}

function refuseScript(place: string, given: string[]): string | undefined {
  try {
    const [file = ''] = chooseScript(join(root, place), given)
    return existsSync(file) ? undefined : `${file} does not exist`
  } catch (thrown) {
    return (thrown as Error).message
  }
}

function refuseEspalier([name = '', ...words]: string[]): string | undefined {
  if (name === '' || name.startsWith('-') || name === 'methods') return undefined
  if (!Object.hasOwn(commands, name)) return `espalier has no command ${name}`
  const text = commands[name as keyof typeof commands].help
  const unknown = words.filter((word) => word.startsWith('--')).find((word) => !text.includes(word.split('=')[0] ?? word))
  return unknown && `espalier ${name} --help does not list ${unknown}`
}

test('what is wrong with a command is found', () => {
  expect(refuse('node test/bench/products.ts')).toContain('cannot run')
  expect(refuse('node src-main/setup/nothing.mjs')).toContain('does not exist')
  expect(refuse('npm run nothing')).toContain('no script nothing')
  expect(refuse('npm run bench -- frames')).toContain('has no script "frames"')
  expect(refuse('npm run bench --quick')).toContain('behind --')
  expect(refuse('espalier prune')).toContain('no command prune')
  expect(refuse('npm run -s espalier -- report EXPERIMENT --printer')).toContain('--printer')
  expect(refuse('npm run bench -- decode [model]')).toBeUndefined()
})

test.each(documents.map((document) => ({ document, shown: shownIn(document) })).filter(({ shown }) => shown.length > 0))(
  'every command in $document can be run as shown',
  ({ shown }) => {
    expect(shown.map((command) => [command, refuse(command)]).filter(([, reason]) => reason)).toEqual([])
  },
)
