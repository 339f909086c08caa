import { globSync } from 'node:fs'
import { dirname, posix } from 'node:path'
import type { Parts } from './generated.ts'
import { readFile } from './generated.ts'
import { root } from './markdown.ts'

/** The files with generated code. */
export const registryFiles = {
  methods: 'src-main/engine/pruning/registry.ts',
  families: 'src-main/engine/architectures/index.ts',
  formats: 'src-main/engine/export/index.ts',
  titles: 'src-main/contract/titles.ts',
} as const

/** Something that registers itself: its name, title and place in lists are in its own file. */
interface Entry {
  readonly file: string
  readonly exported: string
  readonly id: string
  readonly title: string
  /** 0 if the order of files is good enough. */
  readonly order: number
}

interface Kind {
  readonly folder: string
  /** What follows the exported name. */
  readonly begins: string
  /** Whether the folder also contains other files. */
  readonly mixed?: true
  readonly keys: { readonly id: string; readonly title: string; readonly order?: string }
}

const own = { id: 'id', title: 'title', order: 'order' }
const kinds = {
  methods: { folder: 'src-main/engine/pruning/methods', begins: ' = defineMethod\\(\\{', keys: own },
  formats: { folder: 'src-main/engine/export', begins: ': ExportFormat = \\{', mixed: true, keys: own },
  families: { folder: 'src-main/engine/architectures/families', begins: ': Architecture = \\{', keys: { id: 'modelType', title: 'title' } },
} as const satisfies Record<string, Kind>

/** The generated code, by the name in its markers. It is made from text alone, so it works while a registry names a missing file. */
export const registries: Parts = {
  methods: () =>
    registry('methods', {
      comment: 'Every method, by the name that the command line and the history use.',
      declared: 'methods = {',
      ends: '} as const satisfies Record<MethodId, Method>',
    }),
  formats: () =>
    registry('formats', {
      comment: 'Every format a pruned model can be written in, by the name that the command line and the screens use.',
      declared: 'formats = {',
      ends: '} as const satisfies Record<FormatId, ExportFormat>',
    }),
  families: () =>
    registry('families', {
      comment: 'Every family, by the `model_type` of its configs.',
      declared: 'families: Readonly<Record<string, Architecture>> = {',
      ends: '}',
    }),
  'method-titles': () => titles('methods', 'methodTitles'),
  'format-titles': () => titles('formats', 'formatTitles'),
}

/** What the files of a folder register, in list order. Throws if two claim the same name or place. */
export function entriesOf(name: keyof typeof kinds): Entry[] {
  const kind: Kind = kinds[name]
  const found = filesIn(kind.folder).flatMap((file) => entriesIn(file, readFile(file), kind))
  for (const key of ['id', 'order'] as const) {
    const twice = found.find((entry, at) => entry[key] !== 0 && found.findIndex((other) => other[key] === entry[key]) < at)
    if (twice) throw new Error(`${twice.file}: another of the ${name} has the ${key} ${twice[key]} too. Give "${twice.exported}" its own.`)
  }
  return found.sort((one, other) => one.order - other.order)
}

/** What one file registers. */
export function entriesIn(file: string, text: string, { begins, mixed, keys }: Kind = kinds.methods): Entry[] {
  const found = [...text.matchAll(new RegExp(`^export const (\\w+)${begins}([\\s\\S]*?)^\\}`, 'gm'))]
  if (found.length === 0 && !mixed)
    throw new Error(`${file} registers nothing. Begin an export with: export const name${begins.replaceAll('\\', '')}`)
  return found.map(([, exported = '', body = '']) => {
    const read = (key: string) => {
      const [, quoted, number] = new RegExp(`^  ${key}: (?:['"](.+)['"]|(\\d+)),$`, 'm').exec(body) ?? []
      const value = quoted ?? number
      if (value === undefined)
        throw new Error(`${file}: "${exported}" has no "${key}". Write it as a text or number, on a line of its own.`)
      return value
    }
    return { file, exported, id: read(keys.id), title: read(keys.title), order: keys.order ? Number(read(keys.order)) : 0 }
  })
}

function registry(name: keyof typeof kinds, { comment, declared, ends }: { comment: string; declared: string; ends: string }): string {
  const entries = entriesOf(name)
  const rows = entries.map(({ id, exported }) => (id === exported ? `  ${id},` : `  ${quoted(id)}: ${exported},`))
  return `\n${importsOf(entries, registryFiles[name])}\n\n/** ${comment} */\nexport const ${declared}\n${rows.join('\n')}\n${ends}\n`
}

function titles(name: keyof typeof kinds, declared: string): string {
  const rows = entriesOf(name).map(({ id, title }) => `  ${quoted(id)}: ${title.includes("'") ? `"${title}"` : `'${title}'`},`)
  return `export const ${declared} = {\n${rows.join('\n')}\n} as const`
}

const quoted = (key: string) => (/^[A-Za-z_]\w*$/.test(key) ? key : `'${key}'`)

const withoutEnding = (file: string) => file.replace(/\.ts$/, '')

/** All files in a folder and its subfolders except registries, in import order. */
function filesIn(folder: string): string[] {
  const isRegistry = (file: string) => (Object.values(registryFiles) as string[]).includes(file)
  const files = globSync(`${folder}/**/*.ts`, { cwd: root }).map((file) => file.replaceAll('\\', '/'))
  return files
    .filter((file) => !isRegistry(file))
    .sort((one, other) => withoutEnding(one).localeCompare(withoutEnding(other), 'en', { numeric: true }))
}

function importsOf(entries: readonly Pick<Entry, 'file' | 'exported'>[], into: string): string {
  const files = filesIn(dirname(into)).filter((file) => entries.some((entry) => entry.file === file))
  return files
    .map((file) => {
      const names = entries.flatMap((entry) => (entry.file === file ? entry.exported : [])).sort()
      return `import { ${names.join(', ')} } from './${posix.relative(dirname(into), file)}'`
    })
    .join('\n')
}
