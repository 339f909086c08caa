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

export class FakeSession {
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
  reloads = 0
  openHandler: ((details: { url: string }) => unknown) | undefined
  setWindowOpenHandler(handler: (details: { url: string }) => unknown) {
    this.openHandler = handler
  }
  send(...given: unknown[]) {
    this.sent.push(given)
  }
  reload() {
    this.reloads++
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
  restore() {}
}

export const app = Object.assign(new EventEmitter(), {
  done: [] as string[],
  isFirst: true,
  switches: {} as Record<string, string>,
  requestSingleInstanceLock: () => app.isFirst,
  enableSandbox: () => app.done.push('sandbox'),
  quit: () => app.done.push('quit'),
  whenReady: async () => void app.done.push('ready'),
  getPath: (name: string) => `/nowhere/${name}`,
  commandLine: { hasSwitch: (name: string) => name in app.switches, getSwitchValue: (name: string) => app.switches[name] ?? '' },
})

export const session = { defaultSession: new FakeSession() }
export const protocol = {
  registered: [] as { scheme: string; privileges: Record<string, boolean> }[],
  registerSchemesAsPrivileged(schemes: { scheme: string; privileges: Record<string, boolean> }[]) {
    app.done.push('scheme')
    this.registered.push(...schemes)
  },
}
export const shell = { opened: [] as string[], openExternal: (address: string) => Promise.resolve(shell.opened.push(address)) }
export const clipboard = {
  text: '',
  async writeText(text: string) {
    this.text = text
  },
}
export const dialog = {
  answer: { canceled: true, filePaths: [] as string[] },
  shown: [] as unknown[],
  showOpenDialog: async () => dialog.answer,
  showMessageBox: async (_window: unknown, options: unknown) => dialog.shown.push(options),
  showErrorBox: (title: string) => dialog.shown.push(title),
}
export const crashReporter = { started: [] as unknown[], start: (options: unknown) => crashReporter.started.push(options) }
export const safeStorage = {
  available: true,
  backend: 'gnome_libsecret',
  isAsyncEncryptionAvailable: async () => safeStorage.available,
  getSelectedStorageBackend: () => safeStorage.backend,
  encryptStringAsync: async (text: string) => Buffer.from(text).map((byte) => byte ^ 0x5a),
  decryptStringAsync: async (bytes: Buffer) => ({ result: bytes.map((byte) => byte ^ 0x5a).toString(), shouldReEncrypt: false }),
}
export class Notification extends EventEmitter {
  static shown: { title: string; body: string }[] = []
  static isSupported = () => true
  private readonly options: { title: string; body: string }
  constructor(options: { title: string; body: string }) {
    super()
    this.options = options
  }
  show() {
    Notification.shown.push(this.options)
  }
}
export const Menu = {
  template: [] as unknown[],
  buildFromTemplate: (template: unknown[]) => template,
  setApplicationMenu(template: unknown[]) {
    this.template = template
  },
}
