import { spawnSync } from 'node:child_process'
import { existsSync, lstatSync } from 'node:fs'
import { chmod, chown, cp, mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, type TestContext, test } from 'vitest'
import { description } from '../../src-main/setup/package/folder.mjs'
import { readFuses, shippedFuses } from '../../src-main/setup/package/fuses.mjs'
import { writeDebian, writeTar } from '../../src-main/setup/package/linux.mjs'
import { scratchFolder } from '../fixtures/scratch.ts'
import { openContainer } from './container.ts'
import { type Desktop, startDesktop } from './desktop.ts'
import { isLong, missingForContainer } from './install.mjs'
import { type Packaged, packForTests, pruneAndAsk, pruneQuickly, runTool, saveQuantised, startPackaged } from './packaged.ts'

const nobody = 65_534
/** Starts a program as an ordinary user, as which these tests may run already. */
const asUser = process.getuid?.() === 0 ? ['/usr/bin/setpriv', `--reuid=${nobody}`, `--regid=${nobody}`, '--clear-groups'] : []
const folder = scratchFolder('packaged')
let desktop: Desktop
const program = () => join(folder, 'espalier', 'espalier')

beforeAll(async () => {
  await chmod(folder, 0o755)
  desktop = await startDesktop()
  await packForTests(join(folder, 'espalier'))
})

afterAll(() => desktop?.close())

test('the program has the fuses of what is shipped', () => {
  expect(readFuses(program())).toEqual(shippedFuses)
})

/** Starts the program as an ordinary user with an empty home and no PATH. */
async function startAsUser(context: TestContext, home: string): Promise<Packaged> {
  const [first = '', ...others] = [...asUser, '/usr/bin/unshare', '--user', '/bin/true']
  const canHaveSandbox = spawnSync(first, others).status === 0
  context.skip(!canHaveSandbox, 'This machine lets ordinary users make no sandbox.')
  if (!existsSync(home)) await mkdir(home)
  if (asUser.length > 0) await chown(home, nobody, nobody)
  return startPackaged([...asUser, program()], { DISPLAY: desktop.environment.DISPLAY, HOME: home, PATH: '' })
}

test('an ordinary user with the sandbox, an empty home and no PATH prunes the sample, saves it quantised and finds both again', async (context) => {
  const home = join(folder, 'home')
  const first = await startAsUser(context, home)
  await pruneQuickly(first)
  await saveQuantised(first, 'Halved')
  await first.quit()
  const second = await startAsUser(context, home)
  await second.page.getByRole('link', { name: 'Halved Q4_K_M' }).waitFor()
  expect(new Set(await pageFilters())).toEqual(new Set([true]))
  await second.page.getByRole('navigation', { name: 'Screens' }).getByRole('link', { name: 'Settings' }).click()
  const version = second.page.getByRole('region', { name: 'Version' })
  await version.getByText(`Espalier ${description.version} is installed.`).waitFor()
  await version.getByText('Espalier never looks for updates and downloads none.').waitFor()
  await second.quit()
  expect((await readdir(home)).sort()).toEqual(['.cache', '.config', '.local'])
})

test.skipIf(!isLong)('three clicks lead from nothing to a pruned sample model and its answers', async (context) => {
  const opened = await startAsUser(context, join(folder, 'first-home'))
  expect(await pruneAndAsk(opened)).toBe(3)
  await opened.quit()
})

/** Of each process of the program for a page, whether it runs under a filter of system calls. Electron may keep a spare one. */
async function pageFilters(): Promise<boolean[]> {
  const processes = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const read = (id: string, name: string) => readFile(`/proc/${id}/${name}`, 'utf8').catch(() => '')
  const filters = await Promise.all(
    processes.map(async (id) => {
      const command = await read(id, 'cmdline')
      const isPage = command.startsWith(program()) && command.includes('--type=renderer')
      return isPage ? [/^Seccomp:\t2$/m.test(await read(id, 'status'))] : []
    }),
  )
  return filters.flat()
}

test('an archive has everything in one folder, and all of it belongs to root', async () => {
  // Of the small files only: compressing all of it takes as long as all other tests here.
  const part = join(folder, 'part', 'espalier')
  await cp(join(folder, 'espalier', 'resources', 'compute', 'out'), join(part, 'out'), { recursive: true })
  await writeTar(part, join(folder, 'espalier.tar.gz'))
  const lines = (await runTool('tar', ['-tvzf', join(folder, 'espalier.tar.gz')])).trim().split('\n')
  expect(lines.length).toBeGreaterThan(50)
  expect(lines.filter((line) => !/^\S+ root\/root\s.* espalier\//.test(line))).toEqual([])
})

test.skipIf(missingForContainer())(
  'on a Debian with nothing else and no network, an ordinary user starts the package from its menu entry, prunes the sample and saves it; once removed, only what is theirs is left',
  async () => {
    const deb = join(folder, 'espalier.deb')
    const container = await openContainer()
    onTestFinished(() => container.close())
    await writeDebian(join(folder, 'espalier'), deb)
    const inside = (path: string) => join(container.root, path)
    // A link of the container leads somewhere else here.
    const isInstalled = (path: string) => lstatSync(inside(path), { throwIfNoEntry: false }) !== undefined
    await cp(deb, inside('tmp/espalier.deb'))
    await container.run(
      'apt-get update && apt-get install --yes --no-install-recommends -o Dpkg::Options::=--force-unsafe-io /tmp/espalier.deb',
    )
    const entry = await readFile(inside('usr/share/applications/espalier.desktop'), 'utf8')
    expect(entry).toContain('MimeType=application/x-gguf;application/x-espalier+json;x-scheme-handler/espalier;')
    const brought = ['usr/share/icons/hicolor/scalable/apps/espalier.svg', 'usr/share/mime/application/x-gguf.xml', 'usr/bin/espalier']
    for (const path of ['opt/espalier', ...brought]) expect(isInstalled(path), path).toBe(true)
    expect(await container.run('stat -c "%a %U" /opt/espalier/chrome-sandbox')).toBe('4755 root\n')
    expect(await container.run('find /opt/espalier /usr/share/doc/espalier ! -type l -perm /022')).toBe('')

    const [, start = ''] = /^Exec=(\S+) %U$/m.exec(entry) ?? []
    const environment = ['/usr/bin/env', '-i', 'HOME=/home/person', 'PATH=', `DISPLAY=${desktop.environment.DISPLAY}`]
    const command = container.command([...environment, start])
    const started = await startPackaged(command, { PATH: process.env.PATH ?? '' }, await container.forward())
    expect(await pruneAndAsk(started)).toBe(3)
    await saveQuantised(started, 'Halved')
    await started.quit()

    await container.run('apt-get remove --yes espalier')
    for (const path of ['opt/espalier', ...brought]) expect(isInstalled(path), path).toBe(false)
    expect(await container.run('find /home/person -name "*Q4_K_M.gguf" -size +100k')).toMatch(/Halved/)
  },
)
