/** Channel names shared by preload and main. */
export const channels = {
  call: 'espalier:call',
  cancel: 'espalier:cancel',
  event: 'espalier:event',
  chooseFolder: 'espalier:choose-folder',
  chooseFile: 'espalier:choose-file',
  command: 'espalier:command',
  listening: 'espalier:listening',
  showMenu: 'espalier:show-menu',
  setTheme: 'espalier:set-theme',
  showInFolder: 'espalier:show-in-folder',
  copyText: 'espalier:copy-text',
  openLink: 'espalier:open-link',
} as const

export type Channel = (typeof channels)[keyof typeof channels]
