import { readFile, stat } from 'node:fs/promises'
import { app, type BrowserWindow, type ContextMenuParams, clipboard, dialog, Menu, type MenuItemConstructorOptions } from 'electron'
import { toErrorMessage } from '#contract/errors.ts'
import { type ScreenId, screenTitles } from '#contract/titles.ts'
import type { Door } from '#server/door.ts'
import { isAllowedLink, openLink } from './hardening.ts'
import { type Opening, openFlag } from './open-arguments.ts'
import { isOwnAddress } from './origin.ts'
import type { PageCommands } from './page-commands.ts'
import type { StoredState } from './window-state.ts'

const accelerators: Readonly<Record<ScreenId, string>> = {
  models: 'CmdOrCtrl+1',
  new: 'CmdOrCtrl+N',
  experiments: 'CmdOrCtrl+2',
  runs: 'CmdOrCtrl+3',
  compare: 'CmdOrCtrl+4',
  broke: 'CmdOrCtrl+5',
  playground: 'CmdOrCtrl+6',
  judge: 'CmdOrCtrl+7',
  settings: 'CmdOrCtrl+,',
}

const mostRecent = 8
const longestImport = 200_000_000

interface RecentModel {
  id: string
  name: string
}

/** The application's menu, and the models that it lists as recent, also in the dock's and the taskbar's menu. */
export class AppMenu {
  readonly #window: BrowserWindow
  readonly #commands: PageCommands
  readonly #stored: StoredState
  #recent: RecentModel[] = []

  constructor(window: BrowserWindow, commands: PageCommands, stored: StoredState) {
    this.#window = window
    this.#commands = commands
    this.#stored = stored
    this.#build()
  }

  /** Lists the models that the page showed last, then the newest ones. */
  follow(door: Door): void {
    let timer: NodeJS.Timeout | undefined
    const refresh = async () => {
      const models = await door.call('models.list', {}).catch(() => [])
      const shown = this.#stored.value.recentModels
      const rank = (id: string) => (shown.includes(id) ? shown.indexOf(id) : shown.length)
      this.#recent = models.sort((a, b) => rank(a.id) - rank(b.id) || b.createdAt - a.createdAt).slice(0, mostRecent)
      this.#build()
    }
    const refreshSoon = () => {
      clearTimeout(timer)
      timer = setTimeout(() => void refresh(), 300)
    }
    door.subscribe(({ name }) => {
      if (name === 'model changed' || name === 'model removed') refreshSoon()
    })
    this.#window.webContents.on('did-navigate-in-page', (_event, address) => {
      const id = /#\/models\/([\w.-]+)/.exec(address)?.[1]
      if (!id || this.#stored.value.recentModels[0] === id) return
      const others = this.#stored.value.recentModels.filter((other) => other !== id)
      this.#stored.change({ recentModels: [id, ...others].slice(0, mostRecent) })
      refreshSoon()
    })
    refreshSoon()
  }

  /** Shows what a start or the system asked for. */
  async open(opening: Opening): Promise<void> {
    if ('screen' in opening) this.#go(`#/${opening.screen.join('/')}`)
    else if ('model' in opening) this.#commands.send({ name: 'add model', file: opening.model })
    else await this.#import(opening.exported)
  }

  #go(hash: string): void {
    this.#commands.send({ name: 'go', hash })
  }

  #build(): void {
    if (this.#window.isDestroyed()) return
    const mac = process.platform === 'darwin'
    const template = [...(mac ? [{ role: 'appMenu' as const }] : []), this.#file(mac), this.#edit(), this.#view(), this.#goMenu(mac)]
    Menu.setApplicationMenu(Menu.buildFromTemplate([...template, ...(mac ? [{ role: 'windowMenu' as const }] : []), this.#help()]))
    const places = [
      { title: 'New experiment', place: 'new' },
      ...this.#recent.map(({ id, name }) => ({ title: name, place: `models/${id}` })),
    ]
    app.dock?.setMenu(Menu.buildFromTemplate(places.map(({ title, place }) => ({ label: title, click: () => this.#go(`#/${place}`) }))))
    if (process.platform !== 'win32') return
    const task = { program: process.execPath, iconPath: process.execPath, iconIndex: 0, description: '' }
    app.setUserTasks(places.map(({ title, place }) => ({ ...task, title, arguments: `${openFlag}${place}` })))
  }

  #file(mac: boolean): MenuItemConstructorOptions {
    const recent = this.#recent.map(({ id, name }) => ({ label: name.replaceAll('&', '&&'), click: () => this.#go(`#/models/${id}`) }))
    return {
      label: '&File',
      submenu: [
        { label: 'New Experiment', accelerator: accelerators.new, click: () => this.#go('#/new') },
        { label: 'Add Model …', accelerator: 'CmdOrCtrl+O', click: () => this.#commands.send({ name: 'add model' }) },
        { label: 'Recent Models', enabled: recent.length > 0, submenu: recent },
        { type: 'separator' },
        { label: 'Import …', accelerator: 'CmdOrCtrl+I', click: () => void this.#chooseImport() },
        ...(mac
          ? [{ type: 'separator' as const }, { role: 'close' as const }]
          : [
              { type: 'separator' as const },
              { label: 'Settings', accelerator: accelerators.settings, click: () => this.#go('#/settings') },
              { type: 'separator' as const },
              { role: 'quit' as const, label: 'Quit', accelerator: 'CmdOrCtrl+Q' },
            ]),
      ],
    }
  }

  #edit(): MenuItemConstructorOptions {
    return {
      label: '&Edit',
      submenu: [
        { role: 'undo' },
        { role: 'redo' },
        { type: 'separator' },
        { role: 'cut' },
        { role: 'copy' },
        { role: 'paste' },
        { role: 'delete' },
        { role: 'selectAll', label: 'Select All' },
        { type: 'separator' },
        { label: 'Find …', accelerator: 'CmdOrCtrl+F', click: () => this.#commands.send({ name: 'find' }) },
      ],
    }
  }

  #view(): MenuItemConstructorOptions {
    const forDevelopers: MenuItemConstructorOptions[] = [{ type: 'separator' }, { role: 'reload' }, { role: 'toggleDevTools' }]
    return {
      label: '&View',
      submenu: [
        { label: 'Command Palette …', accelerator: 'CmdOrCtrl+K', click: () => this.#commands.send({ name: 'palette' }) },
        { type: 'separator' },
        { role: 'zoomIn', label: 'Zoom In', accelerator: 'CmdOrCtrl+Plus' },
        // On most keyboards, plus needs Shift.
        { role: 'zoomIn', accelerator: 'CmdOrCtrl+=', visible: false, acceleratorWorksWhenHidden: true },
        { role: 'zoomOut', label: 'Zoom Out' },
        { role: 'resetZoom', label: 'Actual Size' },
        { type: 'separator' },
        { role: 'togglefullscreen', label: 'Full Screen' },
        ...(app.isPackaged ? [] : forDevelopers),
      ],
    }
  }

  #goMenu(mac: boolean): MenuItemConstructorOptions {
    const screens = (Object.keys(screenTitles) as ScreenId[]).filter((id) => id !== 'new' && id !== 'settings')
    return {
      label: '&Go',
      submenu: [
        { label: 'Back', accelerator: mac ? 'Cmd+[' : 'Alt+Left', click: () => this.#commands.send({ name: 'back' }) },
        { label: 'Forward', accelerator: mac ? 'Cmd+]' : 'Alt+Right', click: () => this.#commands.send({ name: 'forward' }) },
        { type: 'separator' },
        ...screens.map((id) => ({ label: screenTitles[id], accelerator: accelerators[id], click: () => this.#go(`#/${id}`) })),
        ...(mac ? [{ label: screenTitles.settings, accelerator: accelerators.settings, click: () => this.#go('#/settings') }] : []),
      ],
    }
  }

  #help(): MenuItemConstructorOptions {
    return {
      label: '&Help',
      role: 'help',
      submenu: [
        { label: 'Documentation', accelerator: 'F1', click: () => this.#go('#/help') },
        { label: 'Keyboard Shortcuts', click: () => this.#commands.send({ name: 'shortcuts' }) },
        { label: 'The 2SSP Paper', click: () => void openLink('https://arxiv.org/abs/2501.17771') },
        { type: 'separator' },
        { label: 'Report a Problem …', click: () => this.#commands.send({ name: 'report' }) },
        { label: 'Licences', click: () => this.#go('#/help/licence') },
        { type: 'separator' },
        { label: 'About Espalier', click: () => this.#commands.send({ name: 'about' }) },
      ],
    }
  }

  async #chooseImport(): Promise<void> {
    const { filePaths } = await dialog.showOpenDialog(this.#window, {
      title: 'Import an experiment or a run',
      buttonLabel: 'Import',
      properties: ['openFile'],
      filters: [{ name: 'Exported by Espalier', extensions: ['json'] }],
    })
    if (filePaths[0]) await this.#import(filePaths[0])
  }

  async #import(file: string): Promise<void> {
    try {
      const { size } = await stat(file)
      if (size > longestImport) throw new Error(`${file} has ${size} bytes. An exported experiment has at most ${longestImport}.`)
      this.#commands.send({ name: 'import', content: await readFile(file, 'utf8') })
    } catch (thrown) {
      const { message } = toErrorMessage(thrown)
      await dialog.showMessageBox(this.#window, { type: 'error', title: 'Espalier', message: 'The file was not imported', detail: message })
    }
  }
}

/** Shows the system's menu for text, fields and links. For rows and charts, the page asks for a menu of its own. */
export function addContextMenus(window: BrowserWindow, commands: PageCommands): void {
  const { webContents } = window
  webContents.on('context-menu', (_event, clicked) => {
    const groups = [linkItems(commands, clicked), textItems(clicked)].filter((group) => group.length > 0)
    const items = groups.flatMap((group, at) => (at > 0 ? [{ type: 'separator' as const }, ...group] : group))
    if (items.length > 0) Menu.buildFromTemplate(items).popup({ window })
  })
}

function linkItems(commands: PageCommands, { linkURL }: ContextMenuParams): MenuItemConstructorOptions[] {
  if (isOwnAddress(linkURL)) {
    const { hash } = new URL(linkURL)
    return [{ label: 'Open', click: () => commands.send({ name: 'go', hash }) }]
  }
  if (!isAllowedLink(linkURL)) return []
  return [
    { label: 'Open in browser', click: () => void openLink(linkURL) },
    { label: 'Copy link', click: () => clipboard.writeText(linkURL) },
  ]
}

function textItems({ isEditable, editFlags, selectionText }: ContextMenuParams): MenuItemConstructorOptions[] {
  if (!isEditable) return selectionText.trim() === '' ? [] : [{ role: 'copy' }, { role: 'selectAll' }]
  return [
    { role: 'undo', enabled: editFlags.canUndo },
    { role: 'redo', enabled: editFlags.canRedo },
    { type: 'separator' },
    { role: 'cut', enabled: editFlags.canCut },
    { role: 'copy', enabled: editFlags.canCopy },
    { role: 'paste', enabled: editFlags.canPaste },
    { role: 'delete', enabled: editFlags.canDelete },
    { type: 'separator' },
    { role: 'selectAll', enabled: editFlags.canSelectAll },
  ]
}
