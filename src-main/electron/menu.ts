import { type BrowserWindow, Menu, type MenuItemConstructorOptions } from 'electron'
import { type ScreenId, screenTitles } from '#contract/titles.ts'
import { openLink } from './links.ts'
import { appOrigin } from './origin.ts'

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

/** The application menu. Screens are ordinary links, handled by the page's router. */
export function setMenu(window: BrowserWindow): void {
  const go = (Object.keys(screenTitles) as ScreenId[]).map((id) => ({
    label: screenTitles[id],
    accelerator: accelerators[id],
    click: () => void window.loadURL(`${appOrigin}/#/${id}`),
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
