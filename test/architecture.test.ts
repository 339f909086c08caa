import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { describe, expect, test } from 'vitest'
import { families, ggufArchitectures } from '#engine/architectures/index.ts'

const root = join(import.meta.dirname, '..')

/** Which parts of the program a part may import; the longest name that fits a file is its part. Every part may import itself. */
const mayImport: Record<string, readonly string[]> = {
  'package.json': [],
  'src-main/contract': ['package.json'],
  'src-main/runtime': ['src-main/contract'],
  'src-main/engine': ['src-main/engine/checkpoint/fingerprint.ts', 'src-main/runtime', 'src-main/contract'],
  // Identifies a model: worked out in one place, by whichever process needs it.
  'src-main/engine/checkpoint/fingerprint.ts': ['src-main/engine', 'src-main/runtime', 'src-main/contract'],
  'src-main/compute': ['src-main/engine', 'src-main/runtime', 'src-main/contract'],
  'src-main/db': ['src-main/runtime', 'src-main/contract'],
  'src-main/hub': ['src-main/runtime', 'src-main/contract'],
  'src-main/jobs': ['contract', 'runtime', 'db', 'hub', 'engine/checkpoint/fingerprint.ts'].map((name) => `src-main/${name}`),
  'src-main/services': ['contract', 'runtime', 'db', 'jobs', 'hub'].map((name) => `src-main/${name}`),
  'src-main/server': ['src-main/contract', 'src-main/runtime', 'src-main/services'],
  'src-main/electron': ['contract', 'runtime', 'services', 'server'].map((name) => `src-main/${name}`),
  'src-main/cli': ['contract', 'runtime', 'services', 'server', 'setup'].map((name) => `src-main/${name}`),
  'src-main/setup': ['src-main/runtime'],
  'src-renderer': [
    ...['api', 'components', 'charts', 'lib', 'features', 'shell', 'styles'].map((name) => `src-renderer/${name}`),
    'src-main/contract',
  ],
  'src-renderer/shell': [...['api', 'components', 'lib'].map((name) => `src-renderer/${name}`), 'src-main/contract'],
  'src-renderer/features': [...['api', 'components', 'charts', 'lib'].map((name) => `src-renderer/${name}`), 'src-main/contract'],
  'src-renderer/components': ['src-renderer/api', 'src-renderer/lib', 'src-main/contract'],
  'src-renderer/charts': ['src-renderer/components', 'src-renderer/lib', 'src-main/contract'],
  'src-renderer/lib': ['src-renderer/api', 'src-main/contract'],
  'src-renderer/api': ['src-main/contract'],
  'src-renderer/styles': [],
}

/** The engine's folders, in order: each imports only those before it, types included. */
const engineFolders =
  'limits random backend tensor algebra architectures llama checkpoint tokenizer data steps model evaluation pruning export budgets estimate tasks'.split(
    ' ',
  )

/** Packages that only some parts may load. Types cost nothing at run time and are free to all. */
const packageOwners: { package: RegExp; owners: readonly string[] }[] = [
  { package: /^electron(\/|$)/, owners: ['src-main/electron/'] },
  {
    package: /^@tensorflow\/tfjs-core$/,
    owners: ['backend', 'tensor', 'algebra', 'model', 'pruning', 'evaluation', 'estimate'].map((name) => `src-main/engine/${name}/`),
  },
  { package: /^@tensorflow\/(?!tfjs-core$)/, owners: ['src-main/engine/backend/'] },
  { package: /^koffi$/, owners: ['src-main/engine/backend/ggml/', 'src-main/engine/llama/'] },
  { package: /^better-sqlite3/, owners: ['src-main/db/'] },
  { package: /^node:|^fs$|^path$/, owners: ['src-main/'] },
  { package: /^svelte(\/|$)|^bits-ui|^@lucide|^d3-(?!scale)|^virtua|^@tanstack/, owners: ['src-renderer/'] },
  { package: /^d3-scale/, owners: ['src-renderer/', 'src-main/services/comparison/plot-svg.ts'] },
]

interface Import {
  readonly file: string
  readonly specifier: string
  readonly isType: boolean
  /** The imported file from the root, undefined for a package. */
  readonly target: string | undefined
}

const files = ['src-main', 'src-renderer'].flatMap((folder) => sourceFiles(folder))
const imports = files.flatMap((file) => importsOf(file, readFileSync(join(root, file), 'utf8')))

function sourceFiles(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ts|svelte|mjs)$/.test(name))
    .map((name) => `${folder}/${name.split(sep).join('/')}`)
}

function importsOf(file: string, text: string): Import[] {
  const code = text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')
  const statements = code.matchAll(
    /\b(?:import|export)\s+(type\s)?(?:[\w*{}\s,$]+?\sfrom\s*)?['"]([^'"\n]+)['"]|\bimport\(\s*['"]([^'"\n]+)['"]\s*\)/g,
  )
  return [...statements].map(([, type, named, dynamic]) => {
    const specifier = named ?? dynamic ?? ''
    return { file, specifier, isType: type !== undefined, target: resolveImport(file, specifier) }
  })
}

function resolveImport(file: string, specifier: string): string | undefined {
  if (specifier.startsWith('#')) return `src-main/${specifier.slice(1)}`
  // What is imported as text is no code.
  if (!specifier.startsWith('.') || specifier.endsWith('?raw')) return undefined
  return relative(root, join(root, dirname(file), specifier))
    .split(sep)
    .join('/')
}

function partOf(file: string): string | undefined {
  const fitting = Object.keys(mayImport).filter((part) => file === part || file.startsWith(`${part}/`))
  return fitting.sort((one, other) => other.length - one.length)[0]
}

function featureOf(file: string): string | undefined {
  return /^src-renderer\/features\/([^/]+)/.exec(file)?.[1]
}

/** The engine folder of a file: '' directly in the engine, undefined elsewhere. */
function engineFolderOf(file: string | undefined): string | undefined {
  return /^src-main\/engine\/(?:([^/]+)\/)?[^/]+/
    .exec(file ?? '')
    ?.slice(1)
    .map((folder) => folder ?? '')[0]
}

function goesUp({ file, target }: Pick<Import, 'file' | 'target'>): boolean {
  const [from, to] = [engineFolderOf(file), engineFolderOf(target)]
  if (from === undefined || to === undefined || from === '') return false
  return to === '' || engineFolders.indexOf(from) < engineFolders.indexOf(to)
}

/** Files that import each other round about, one circle each: every import is followed, of types too. */
function findCircles(edges: readonly Pick<Import, 'file' | 'target'>[]): string[][] {
  const targets = Map.groupBy(edges, ({ file }) => file)
  const done = new Set<string>()
  const circles: string[][] = []
  const follow = (file: string, path: readonly string[]): void => {
    if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file])
    if (path.includes(file) || done.has(file)) return
    for (const { target } of targets.get(file) ?? []) if (target) follow(target, [...path, file])
    done.add(file)
  }
  for (const file of targets.keys()) follow(file, [])
  return circles
}

const describeImport = ({ file, specifier }: Import) => `${file} imports ${specifier}`

const electronFiles = () => files.filter((file) => file.startsWith('src-main/electron/')).map((file) => file.slice('src-main/'.length))

/** The files that some files load at run time, directly or through others. */
function reachedFrom(starts: readonly string[]): Set<string> {
  const targets = Map.groupBy(
    imports.filter(({ isType }) => !isType),
    ({ file }) => file,
  )
  const found = new Set<string>()
  const waiting = [...starts]
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (found.has(file)) continue
    found.add(file)
    for (const { target } of targets.get(file) ?? []) if (target) waiting.push(target)
  }
  return found
}

function isAllowed({ file, target }: Import): boolean {
  const from = partOf(file)
  const to = target && partOf(target)
  return !target || (from !== undefined && to !== undefined && (from === to || mayImport[from]?.includes(to) === true))
}

describe('imports run one way', () => {
  test('the table of parts has every folder', () => {
    expect(files.filter((file) => partOf(file) === undefined)).toEqual([])
    expect(imports.length).toBeGreaterThan(50)
  })

  test('a part imports only the parts that the table gives it', () => {
    expect(imports.filter((one) => !isAllowed(one)).map(describeImport)).toEqual([])
  })

  test('a feature imports no other feature', () => {
    const crossing = imports.filter(
      ({ file, target }) => featureOf(file) && target && featureOf(target) && featureOf(file) !== featureOf(target),
    )
    expect(crossing.map(describeImport)).toEqual([])
  })

  test("the list of the engine's folders has every folder", () => {
    const folders = new Set(files.map(engineFolderOf).filter((folder) => folder))
    expect([...folders].sort()).toEqual([...engineFolders].sort())
  })

  test('folders of the engine import one way', () => {
    expect(imports.filter(goesUp).map(describeImport)).toEqual([])
  })

  test('no files import each other in a circle', () => {
    expect(findCircles(imports).map((circle) => circle.join(' -> '))).toEqual([])
  })

  test.each(packageOwners)('$package is loaded only by $owners', ({ package: name, owners }) => {
    const foreign = imports.filter((one) => !one.isType && name.test(one.specifier) && !owners.some((owner) => one.file.startsWith(owner)))
    expect(foreign.map(describeImport)).toEqual([])
  })

  test('the main process loads neither tensors nor ggml', () => {
    const doors = ['cli/main.ts', 'server/server.ts', 'services/workbench.ts', ...electronFiles()].map((name) => `src-main/${name}`)
    const loaded = reachedFrom(doors)
    expect(loaded.size).toBeGreaterThan(100)
    const native = imports.filter(({ file, specifier, isType }) => !isType && loaded.has(file) && /^@tensorflow|^koffi/.test(specifier))
    expect([...loaded].filter((file) => /^src-main\/engine\/(backend|algebra|llama|tensor|model)\//.test(file))).toEqual([])
    expect(native.map(describeImport)).toEqual([])
  })

  test('only db contains SQL', () => {
    const others = files.filter((file) => !file.startsWith('src-main/db/') && /\.prepare\(/.test(readFileSync(join(root, file), 'utf8')))
    expect(others).toEqual([])
  })

  test('the contract knows nothing but itself and zod', () => {
    const foreign = imports.filter(
      ({ file, specifier, target }) => file.startsWith('src-main/contract/') && !target && !/^zod(\/|$)/.test(specifier),
    )
    expect(foreign.map(describeImport)).toEqual([])
  })

  test('nothing imports from the tests', () => {
    expect(imports.filter(({ target }) => target?.startsWith('test/')).map(describeImport)).toEqual([])
  })
})

describe('the rules themselves', () => {
  const sample = (file: string, text: string) => importsOf(file, text)

  test.each([
    ['src-main/contract/runs/run.ts', "import { open } from '#db/database.ts'"],
    ['src-main/engine/pruning/plan.ts', "import { findRuntime } from '../../setup/places.mjs'"],
    ['src-main/services/runs/runs.ts', "export { score } from '#engine/pruning/search/variants.ts'"],
    ['src-renderer/features/runs/Runs.svelte', "<script>\n  const page = await import('#services/workbench.ts')\n</script>"],
    ['src-renderer/lib/route.ts', "import {\n  a,\n  b,\n} from '../features/runs/state.svelte.ts'"],
  ])('a forbidden import in %s is found', (file, text) => {
    expect(sample(file, text).map(isAllowed)).toEqual([false])
  })

  test('a circle of three is found, of types too', () => {
    const edges = [
      ...sample('src-main/db/a.ts', "import { b } from './b.ts'"),
      ...sample('src-main/db/b.ts', "import type { C } from './c.ts'\nimport { d } from './d.ts'"),
      ...sample('src-main/db/c.ts', "import { a } from './a.ts'"),
    ]
    expect(findCircles(edges)).toEqual([['a', 'b', 'c', 'a'].map((name) => `src-main/db/${name}.ts`)])
  })

  test('an import against the order of the engine is found', () => {
    const up = sample(
      'src-main/engine/model/views/view.ts',
      "import type { Method } from '#engine/pruning/method.ts'\nimport { run } from '#engine/tasks/run/run.ts'",
    )
    expect(up.map(goesUp)).toEqual([true, true])
  })

  test('a word in a comment is no import, and types are distinguished from values', () => {
    const text =
      "// import { a } from '#db/a.ts'\n/* import '#db/b.ts' */\nimport type { C } from '#contract/c.ts'\nimport { d } from 'zod'"
    expect(sample('src-main/contract/runs/run.ts', text)).toMatchObject([
      { specifier: '#contract/c.ts', isType: true },
      { specifier: 'zod', isType: false },
    ])
  })
})

test('only nameStep makes the name of a step', () => {
  const making = files.filter((file) => /\bas StepName\b|<StepName>/.test(readFileSync(join(root, file), 'utf8')))
  expect(making).toEqual(['src-main/engine/steps/step-name.ts'])
})

test('only engine/architectures distinguishes model families', () => {
  const names = [...Object.keys(families), ...ggufArchitectures.keys()].join('|')
  const family = new RegExp(`(?:[!=]==?\\s*|case\\s+|includes\\()['"](?:${names})['"]`)
  const telling = files.filter(
    (file) => !file.startsWith('src-main/engine/architectures/') && family.test(readFileSync(join(root, file), 'utf8')),
  )
  expect(telling).toEqual([])
})

test('no tracked text names a registry, a download host of packages, or a place on the machine it was written on', () => {
  // Put together here, so that this file does not find itself.
  const forbidden = [
    ['registry.', 'npmjs.'],
    ['pypi.', 'org'],
    ['files.python', 'hosted'],
    ['/wo', 'rk/'],
    ['/ro', 'ot/'],
  ].map((parts) => parts.join(''))
  const tracked = execFileSync('git', ['ls-files', '-z'], { cwd: root, encoding: 'utf8' }).split('\0').filter(isText)
  const naming = tracked.filter((file) => {
    const text = readTracked(file)
    return forbidden.some((one) => text.includes(one))
  })
  expect(naming).toEqual([])
})

function isText(file: string): boolean {
  return (
    /\.(ts|mjs|svelte|json|md|py|css|html|svg|yml|yaml|toml|sh|txt)$|^\.ci\/|^\.npmrc$|^(LICENSE|NOTICE)$/.test(file) &&
    !file.startsWith('resources/questions/')
  )
}

/** A file that is deleted but not yet committed is still listed. */
function readTracked(file: string): string {
  try {
    return readFileSync(join(root, file), 'utf8')
  } catch {
    return ''
  }
}
