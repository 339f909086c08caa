import { join } from 'node:path'
import { BrowserWindow, nativeTheme, screen } from 'electron'
import { resources } from '#runtime/resources.ts'
import { appOrigin } from './origin.ts'
import { leastSize, placeWindow, type StoredState } from './window-state.ts'

/** The page's colour of paper, shown until the page is drawn. Equal to `--paper` in the page's style. */
const paper = () => (nativeTheme.shouldUseDarkColors ? '#121613' : '#fbfaf6')

/** A window is written down this long after it was last moved or resized. */
const settledMilliseconds = 400

/** Opens the only window, where and as large as it was. `preload` is the path of the built preload script. */
export function openWindow(preload: string, stored: StoredState): BrowserWindow {
  nativeTheme.themeSource = stored.value.theme
  const main = screen.getPrimaryDisplay()
  const others = screen.getAllDisplays().filter(({ id }) => id !== main.id)
  const screens = [main, ...others].map(({ workArea }) => workArea)
  const window = new BrowserWindow({
    ...placeWindow(stored.value.bounds, screens),
    minWidth: leastSize.width,
    minHeight: leastSize.height,
    show: false,
    title: 'Espalier',
    icon: join(resources, 'icon.png'),
    backgroundColor: paper(),
    webPreferences: {
      preload,
      contextIsolation: true,
      sandbox: true,
      nodeIntegration: false,
      nodeIntegrationInWorker: false,
      nodeIntegrationInSubFrames: false,
      webSecurity: true,
      webviewTag: false,
      safeDialogs: true,
      spellcheck: false,
    },
  })
  if (stored.value.maximized) window.maximize()
  showOnceDrawn(window)
  nativeTheme.on('updated', () => {
    if (!window.isDestroyed()) window.setBackgroundColor(paper())
  })
  keepPlace(window, stored)
  void window.loadURL(`${appOrigin}/`)
  return window
}

/** A window is shown this long after it was opened, drawn or not: a page whose graphics are stuck must not leave the program invisible. */
const undrawnMilliseconds = 5000

function showOnceDrawn(window: BrowserWindow): void {
  const show = () => {
    clearTimeout(late)
    if (!window.isDestroyed() && !window.isVisible()) window.show()
  }
  const late = setTimeout(show, undrawnMilliseconds)
  window.once('ready-to-show', show)
}

/** Writes down size and position, of the window before it was maximised. */
function keepPlace(window: BrowserWindow, stored: StoredState): void {
  let timer: NodeJS.Timeout | undefined
  const keep = () => {
    clearTimeout(timer)
    if (!window.isDestroyed() && !window.isFullScreen())
      stored.change({ bounds: window.getNormalBounds(), maximized: window.isMaximized() })
  }
  const keepSoon = () => {
    clearTimeout(timer)
    timer = setTimeout(keep, settledMilliseconds)
  }
  for (const event of ['resize', 'move', 'maximize', 'unmaximize'] as const) window.on(event as 'resize', keepSoon)
  window.on('close', keep)
}

/** Shows the window in front, wherever it was. */
export function showWindow(window: BrowserWindow): void {
  if (window.isDestroyed()) return
  if (window.isMinimized()) window.restore()
  window.show()
  window.focus()
}
