import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { commandOf, runTool } from '../../src-main/setup/tools.mjs'
import { scratchFolder } from './scratch.ts'

/** All files that a bundle's entry loads, including itself. */
function reach(folder: string, entry: string, seen = new Set<string>()): Set<string> {
  if (seen.has(entry)) return seen
  seen.add(entry)
  for (const [, name] of readFileSync(join(folder, entry), 'utf8').matchAll(/["']\.\/([\w.-]+\.js)["']/g))
    if (name) reach(folder, name, seen)
  return seen
}

const electron = /(?:from\s*|import\(?\s*|require\()["']electron(?:\/[\w-]+)?["']/

/** Parses modules in one process without running them; exits with 1 at the first invalid one. */
const parseAll = `
import { readFileSync } from 'node:fs'
import { SourceTextModule } from 'node:vm'
for (const file of process.argv.slice(1)) new SourceTextModule(readFileSync(file, 'utf8'), { identifier: file })`

test("the window's code is built: only the window needs electron, the preload is one file, and every file is valid", async () => {
  const out = scratchFolder()
  const env = { ...process.env, ESPALIER_BUILD: 'window', NODE_ENV: 'production' }
  const build = await runTool(process.execPath, [commandOf('electron-vite'), 'build', '--outDir', out, '--logLevel', 'warn'], { env })
  expect(build).toMatchObject({ code: 0 })
  const main = join(out, 'main')
  const entries = readdirSync(main).filter((name) => ['window.js', 'server.js', 'compute.js', 'llama.js', 'cli.js'].includes(name))
  expect(entries).toHaveLength(5)
  const needing = entries.filter((entry) => [...reach(main, entry)].some((file) => electron.test(readFileSync(join(main, file), 'utf8'))))
  expect(needing).toEqual(['window.js'])
  expect(readdirSync(join(out, 'preload'))).toEqual(['preload.cjs'])
  const parse = ['--experimental-vm-modules', '--no-warnings', '--input-type=module', '-e', parseAll]
  const files = readdirSync(main).filter((name) => name.endsWith('.js'))
  expect(await runTool(process.execPath, [...parse, ...files.map((file) => join(main, file))])).toEqual({ code: 0, output: '' })
})
