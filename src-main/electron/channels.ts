/** Channel names shared by preload and main. */
export const channels = {
  call: 'espalier:call',
  event: 'espalier:event',
  chooseFolder: 'espalier:choose-folder',
  chooseFile: 'espalier:choose-file',
  copyText: 'espalier:copy-text',
  openLink: 'espalier:open-link',
  connection: 'espalier:connection',
  attach: 'espalier:attach',
  detach: 'espalier:detach',
} as const

export type Channel = (typeof channels)[keyof typeof channels]
