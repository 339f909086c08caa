import { type BrowserWindow, Menu, type MenuItemConstructorOptions } from 'electron'
import { openLink } from './links.ts'
import { appOrigin } from './origin.ts'

const screens = [
  { label: 'Models', path: 'models', accelerator: 'CmdOrCtrl+1' },
  { label: 'New experiment', path: 'new', accelerator: 'CmdOrCtrl+N' },
  { label: 'Experiments', path: 'experiments', accelerator: 'CmdOrCtrl+2' },
  { label: 'Runs', path: 'runs', accelerator: 'CmdOrCtrl+3' },
  { label: 'Compare', path: 'compare', accelerator: 'CmdOrCtrl+4' },
  { label: 'What broke', path: 'broke', accelerator: 'CmdOrCtrl+5' },
  { label: 'Playground', path: 'playground', accelerator: 'CmdOrCtrl+6' },
  { label: 'Judge', path: 'judge', accelerator: 'CmdOrCtrl+7' },
  { label: 'Settings', path: 'settings', accelerator: 'CmdOrCtrl+,' },
]

/** The application menu. Screens are ordinary links, handled by the page's router. */
export function setMenu(window: BrowserWindow): void {
  const go = screens.map(({ label, path, accelerator }) => ({
    label,
    accelerator,
    click: () => void window.loadURL(`${appOrigin}/#/${path}`),
  }))
  const template: MenuItemConstructorOptions[] = [
    ...(process.platform === 'darwin' ? [{ role: 'appMenu' as const }] : []),
    { role: 'fileMenu' },
    { role: 'editMenu' },
    { label: 'Go', submenu: go },
    {
      label: 'View',
      submenu: [
        { role: 'reload' },
        { type: 'separator' },
        { role: 'resetZoom' },
        { role: 'zoomIn' },
        { role: 'zoomOut' },
        { type: 'separator' },
        { role: 'togglefullscreen' },
      ],
    },
    { role: 'windowMenu' },
    { role: 'help', submenu: [{ label: 'The 2SSP paper', click: () => void openLink('https://arxiv.org/abs/2501.17771') }] },
  ]
  Menu.setApplicationMenu(Menu.buildFromTemplate(template))
}
