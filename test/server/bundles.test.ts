import { existsSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { build, type Rolldown } from 'vite'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '../..')
const entries = { server: 'src-main/server/main.ts', compute: 'src-main/compute/main.ts', cli: 'src-main/cli/main.ts' }
const present = Object.entries(entries).filter(([, file]) => existsSync(join(root, file)))

/** Everything that is neither a file nor one of our own `#` folders. */
const isPackage = (id: string) => /^[@a-z]/i.test(id) && !isAbsolute(id)

/** Bundles one entry as the application is built, and gives what its files still import from outside. */
async function importsOf(file: string): Promise<Set<string>> {
  const built = (await build({
    root,
    configFile: false,
    logLevel: 'silent',
    build: { ssr: file, write: false, minify: false, rolldownOptions: { external: isPackage, output: { format: 'es' } } },
  })) as Rolldown.RolldownOutput
  const chunks = built.output.filter((part) => part.type === 'chunk')
  for (const { code } of chunks) expect(code).not.toMatch(/(?:from|import|require)\s*\(?\s*['"]electron(?:\/[\w-]+)?['"]/)
  return new Set(chunks.flatMap(({ imports, dynamicImports }) => [...imports, ...dynamicImports]))
}

test.each(present)('the built %s imports no Electron', async (_name, file) => {
  const imports = [...(await importsOf(file))]
  expect(imports.filter((name) => name === 'electron' || name.startsWith('electron/'))).toEqual([])
})

test('the check sees Electron where it is', async () => {
  await expect(importsOf('src-main/electron/window.ts')).rejects.toThrow()
})
