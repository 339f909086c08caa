import type { Browser, Page } from 'playwright-core'
import { type OpenWindow, openWindow } from '../window/open-window.ts'
import { launchBrowser } from './browser.ts'
import { openScreen, type Screen, type Theme, watchScreen } from './screens.ts'
import { timedMachine } from './timed-machine.ts'
import { startWorkbench, type Workbench } from './workbench.ts'

/** Whether these tests run in the desktop window (project `window`) instead of a browser. */
export const isInWindow = process.env.ESPALIER_TEST_WINDOW === '1'

/** A workbench on a machine that was timed before, with a screen on it. */
export interface Opened {
  workbench: Pick<Workbench, 'call' | 'kill' | 'restart'>
  /** In the window, another page after each restart. */
  readonly screen: Screen
  /** Opens a saved document as a person does later: on a page outside the workbench. */
  read(html: string): Promise<Page>
  close(): Promise<void>
}

export async function openOnScreen(theme: Theme = 'light'): Promise<Opened> {
  return isInWindow ? openInWindow(theme) : openInBrowser(theme)
}

async function openInBrowser(theme: Theme): Promise<Opened> {
  const [browser, workbench] = await Promise.all([launchBrowser(), startWorkbench({ prepare: timedMachine })])
  const screen = await openScreen(browser, workbench, theme)
  return {
    workbench,
    screen,
    read: (html) => readIn(browser, html),
    async close() {
      await browser.close()
      await workbench.close()
    },
  }
}

async function openInWindow(theme: Theme): Promise<Opened> {
  const opened = await openWindow({ prepare: timedMachine, theme })
  let screen = await showScreen(opened)
  let reader: Browser | undefined
  return {
    get screen() {
      return screen
    },
    workbench: {
      call: opened.call,
      kill: opened.kill,
      async restart() {
        await opened.restart()
        screen = await showScreen(opened, screen.faults)
      },
    },
    async read(html) {
      reader ??= await launchBrowser()
      return readIn(reader, html)
    },
    async close() {
      await reader?.close()
      await opened.close()
    },
  }
}

/** The window at the size of the browser's page, once it has loaded again with what the tests watch. */
async function showScreen({ app, page }: OpenWindow, faults: string[] = []): Promise<Screen> {
  await app.evaluate(({ BrowserWindow }) => BrowserWindow.getAllWindows()[0]?.setContentSize(1440, 900))
  await page.emulateMedia({ reducedMotion: 'reduce' })
  await watchScreen(page, faults)
  await page.reload()
  await page.getByRole('navigation', { name: 'Screens' }).waitFor()
  return { page, faults, context: app.context() }
}

async function readIn(browser: Browser, html: string): Promise<Page> {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 } })
  await page.setContent(html)
  return page
}
