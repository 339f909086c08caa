import { contextBridge, type IpcRendererEvent, ipcRenderer, webUtils } from 'electron'
import type { ApiEvent } from '#contract/events.ts'
import type { DesktopBridge, DesktopCommand } from '#contract/machine/bridge.ts'
import { channels } from './channels.ts'

/** One function per action of the page. Electron's own objects and events are never exposed. */
const bridge: DesktopBridge = {
  call: (...given) => ipcRenderer.invoke(channels.call, ...given),
  cancel: (id) => ipcRenderer.invoke(channels.cancel, id),
  subscribe(listener) {
    const pass = (_event: IpcRendererEvent, event: ApiEvent) => listener(event)
    ipcRenderer.on(channels.event, pass)
    return () => {
      ipcRenderer.removeListener(channels.event, pass)
    }
  },
  chooseFolder: () => ipcRenderer.invoke(channels.chooseFolder),
  chooseFile: () => ipcRenderer.invoke(channels.chooseFile),
  pathOf: (file) => webUtils.getPathForFile(file),
  onCommand(listener) {
    ipcRenderer.on(channels.command, (_event: IpcRendererEvent, command: DesktopCommand) => listener(command))
    void ipcRenderer.invoke(channels.listening)
  },
  showMenu: (items) => ipcRenderer.invoke(channels.showMenu, items),
  setTheme: (theme) => ipcRenderer.invoke(channels.setTheme, theme),
  showInFolder: (path) => ipcRenderer.invoke(channels.showInFolder, path),
  copyText: (text) => ipcRenderer.invoke(channels.copyText, text),
  openLink: (address) => ipcRenderer.invoke(channels.openLink, address),
}

contextBridge.exposeInMainWorld('espalier', bridge)
