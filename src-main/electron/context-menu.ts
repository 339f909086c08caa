import { type BrowserWindow, type ContextMenuParams, clipboard, Menu, type MenuItemConstructorOptions } from 'electron'
import { isAllowedLink, openLink } from './hardening.ts'
import { isOwnAddress } from './origin.ts'
import type { PageCommands } from './page-commands.ts'

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
