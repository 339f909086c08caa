import { EventEmitter } from 'node:events'

/** A fake of the parts of Electron that the window uses; it records how they are used. For `vi.mock('electron', …)`. */
type Answer = (...given: never[]) => unknown

export const ipcMain = {
  handlers: new Map<string, Answer>(),
  handle(channel: string, answer: Answer) {
    if (this.handlers.has(channel)) throw new Error(`Attempted to register a second handler for '${channel}'`)
    this.handlers.set(channel, answer)
  },
}

export const ipcRenderer = Object.assign(new EventEmitter(), {
  invoked: [] as unknown[][],
  invoke(...given: unknown[]) {
    this.invoked.push(given)
    return Promise.resolve({ value: 'answer' })
  },
})

export const webUtils = { getPathForFile: (file: File) => `/dropped/${file.name}` }

export const contextBridge = {
  exposed: {} as Record<string, unknown>,
  exposeInMainWorld(name: string, value: unknown) {
    this.exposed[name] = value
  },
}

export class FakeSession extends EventEmitter {
  protocol = { schemes: new Map<string, Answer>(), handle: (scheme: string, answer: Answer) => this.protocol.schemes.set(scheme, answer) }
  set: Record<string, Answer> = {}
  setPermissionRequestHandler = (answer: Answer) => this.remember('request', answer)
  setPermissionCheckHandler = (answer: Answer) => this.remember('check', answer)
  setDevicePermissionHandler = (answer: Answer) => this.remember('device', answer)
  setDisplayMediaRequestHandler = (answer: Answer) => this.remember('display', answer)
  webRequest = { onBeforeRequest: (answer: Answer) => this.remember('web', answer) }
  private remember(name: string, answer: Answer) {
    this.set[name] = answer
  }
}

export class FakeContents extends EventEmitter {
  sent: unknown[][] = []
  openHandler: ((details: { url: string }) => unknown) | undefined
  setWindowOpenHandler(handler: (details: { url: string }) => unknown) {
    this.openHandler = handler
  }
  send(...given: unknown[]) {
    this.sent.push(given)
  }
}

export class BrowserWindow extends EventEmitter {
  static all: BrowserWindow[] = []
  webContents = new FakeContents()
  loaded: string[] = []
  bars: number[] = []
  focused = false
  shown = 0
  options: { webPreferences?: Record<string, unknown> }
  constructor(options: { webPreferences?: Record<string, unknown> } = {}) {
    super()
    this.options = options
    BrowserWindow.all.push(this)
    app.emit('web-contents-created', {}, this.webContents)
  }
  loadURL(address: string) {
    this.loaded.push(address)
    return Promise.resolve()
  }
  isDestroyed = () => false
  isFocused = () => this.focused
  isMinimized = () => false
  setProgressBar(share: number) {
    this.bars.push(share)
  }
  show() {
    this.shown++
  }
  focus() {
    this.focused = true
  }
}

export const app = new EventEmitter()

export const protocol = {
  registered: [] as { scheme: string; privileges: Record<string, boolean> }[],
  registerSchemesAsPrivileged(schemes: { scheme: string; privileges: Record<string, boolean> }[]) {
    this.registered.push(...schemes)
  },
}
const area = { x: 0, y: 0, width: 1600, height: 1000 }
export const screen = {
  getPrimaryDisplay: () => ({ id: 1, workArea: area }),
  getAllDisplays: () => [{ id: 1, workArea: area }],
}
export const nativeTheme = Object.assign(new EventEmitter(), { themeSource: 'system', shouldUseDarkColors: false })
export const shell = {
  shown: [] as string[],
  showItemInFolder: (path: string) => shell.shown.push(path),
  opened: [] as string[],
  openExternal: (address: string) => Promise.resolve(shell.opened.push(address)),
}
export const clipboard = {
  text: '',
  async writeText(text: string) {
    this.text = text
  },
}
export const dialog = {
  answer: { canceled: true, filePaths: [] as string[] },
  showOpenDialog: async () => dialog.answer,
}
export class Notification extends EventEmitter {
  static shown: Notification[] = []
  static isSupported = () => true
  readonly options: { title: string; body: string }
  constructor(options: { title: string; body: string }) {
    super()
    this.options = options
  }
  show() {
    Notification.shown.push(this)
  }
}
export const Menu = {
  /** Chooses the last entry of a menu that pops up. */
  buildFromTemplate: (template: { click?: () => void }[]) =>
    Object.assign(template, {
      popup: ({ callback }: { callback?: () => void }) => {
        callback?.()
        template.at(-1)?.click?.()
      },
    }),
}
