import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { _electron, type ElectronApplication, type Page } from 'playwright-core'
import type { CallApi } from '#contract/api.ts'
import { EspalierError } from '#contract/errors.ts'
import type { DesktopBridge } from '#contract/machine/bridge.ts'
import { patience } from '../patience.ts'
import { type Desktop, startDesktop } from './desktop.ts'
import { testElectron } from './install.mjs'

const root = join(import.meta.dirname, '../..')

/** The program in its real window, on a desktop and with folders of its own. `app` and `page` are those of the last start. */
export interface OpenWindow {
  readonly app: ElectronApplication
  readonly page: Page
  desktop: Desktop
  /** Holds `data`, the data folder, and `config`, what Electron keeps. */
  folder: string
  call: CallApi
  /** Everything that the program has printed since its last start. */
  readonly printed: string
  /** Closes the window as a person does, and waits for the program's end. */
  quit(): Promise<void>
  /** Ends the program as a crash would. */
  kill(): Promise<void>
  /** Starts a second program beside it, and returns the exit code. */
  startAgain(...args: string[]): Promise<number | null>
  /** Starts it again on the same folders, with these arguments after those of the first start. */
  restart(...args: string[]): Promise<void>
  close(): Promise<void>
}

export interface WindowOptions {
  /** May fill the data folder before the program opens it. */
  prepare?: (dataFolder: string) => Promise<void>
  theme?: 'light' | 'dark'
  args?: string[]
  /** Variables beside those of the desktop and of the folders. */
  environment?: Record<string, string>
}

export async function openWindow({ prepare, theme = 'light', args = [], environment = {} }: WindowOptions = {}): Promise<OpenWindow> {
  const [desktop, folder] = await Promise.all([startDesktop(), mkdtemp(join(tmpdir(), 'espalier-window-'))])
  const data = join(folder, 'data')
  await mkdir(data)
  await prepare?.(data)
  const own = { ESPALIER_HOME: data, XDG_CONFIG_HOME: join(folder, 'config'), XDG_DATA_HOME: join(folder, 'share') }
  const env = { ...(process.env as Record<string, string>), ...desktop.environment, ...own, ...environment }
  // Root has no sandbox. The packaged program is tested with it, as another user.
  const given = [root, '--no-sandbox', ...args]
  const start = async (more: string[]) => {
    const app = await _electron.launch({
      executablePath: testElectron(),
      args: [...given, ...more],
      env,
      colorScheme: theme,
      acceptDownloads: true,
    })
    evaluateAgain(app)
    let printed = ''
    for (const stream of [app.process().stdout, app.process().stderr]) stream?.on('data', (text) => (printed += text))
    const page = await app.firstWindow()
    page.setDefaultTimeout(30_000 * patience)
    return { app, page, printed: () => printed }
  }
  let { app, page, printed } = await start([]).catch(async (thrown: unknown) => {
    await desktop.close()
    throw thrown
  })
  const ended = () => new Promise<void>((resolve) => (hasEnded(app) ? resolve() : void app.process().once('exit', () => resolve())))
  const opened: OpenWindow = {
    get app() {
      return app
    },
    get page() {
      return page
    },
    get printed() {
      return printed()
    },
    desktop,
    folder,
    call: ((name, input) => callIn(page)(name, input)) as CallApi,
    async quit() {
      if (!hasEnded(app)) await app.close()
    },
    async kill() {
      app.process().kill('SIGKILL')
      await ended()
    },
    async startAgain(...more) {
      const [code] = await once(spawn(testElectron(), [...given, ...more], { env, stdio: 'ignore' }), 'exit')
      return code
    },
    async restart(...more) {
      ;({ app, page, printed } = await start(more))
    },
    async close() {
      await opened.quit()
      await desktop.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
  return opened
}

/**
 * Makes `evaluate` ask once more if its result was lost. The driver refers only weakly to the promise of a result, and a garbage collection
 * of the program may come before its next turn.
 */
function evaluateAgain(app: ElectronApplication): void {
  const evaluate = app.evaluate.bind(app)
  const again = (...given: Parameters<typeof evaluate>) =>
    evaluate(...given).catch((thrown: unknown) => {
      if (!/garbage collected/.test(String(thrown))) throw thrown
      return evaluate(...given)
    })
  app.evaluate = again as typeof app.evaluate
}

/** Clicks an item of the application menu, given by its labels from the outside in. */
export const clickMenu = ({ app }: OpenWindow, ...labels: string[]) =>
  app.evaluate(({ BrowserWindow, Menu }, labels) => {
    let items = Menu.getApplicationMenu()?.items ?? []
    for (const [depth, label] of labels.entries()) {
      // The letter after & is underlined.
      const item = items.find((one) => one.label.replace('&', '') === label)
      if (!item) throw new Error(`No "${label}" among ${items.map((one) => one.label).join(', ')}.`)
      if (depth === labels.length - 1) item.click(undefined, BrowserWindow.getAllWindows()[0])
      items = item.submenu?.items ?? []
    }
  }, labels)

const hasEnded = (app: ElectronApplication) => app.process().exitCode !== null || app.process().signalCode !== null

/** Calls the workbench over the bridge of a page, as the page itself does. */
export const callIn = (page: Page) =>
  (async (name, input) => {
    const ask = ([name, input]: readonly [string, unknown]) => (window as unknown as { espalier: DesktopBridge }).espalier.call(name, input)
    const answer = await page.evaluate(ask, [name, input] as const)
    if ('error' in answer) throw new EspalierError(answer.error.code, `${name}: ${answer.error.message}`, answer.error.details)
    return answer.value
  }) as CallApi
