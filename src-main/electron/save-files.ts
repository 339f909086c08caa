import { existsSync } from 'node:fs'
import { dirname, extname, join } from 'node:path'
import { app, type BrowserWindow, type DownloadItem, dialog, type Session } from 'electron'
import type { PageCommands } from './page-commands.ts'
import type { StoredState } from './window-state.ts'

const kinds: Readonly<Record<string, string>> = {
  csv: 'Table (CSV)',
  tex: 'LaTeX',
  md: 'Markdown',
  html: 'Web page',
  json: 'JSON',
  jsonl: 'JSON lines',
  svg: 'Picture (SVG)',
  png: 'Picture (PNG)',
  pdf: 'PDF',
  txt: 'Text',
}

/** Asks where to save each file that the page makes, in the folder of the last one, and reports where it is. */
export function askWhereToSave(session: Session, window: BrowserWindow, stored: StoredState, commands: PageCommands): void {
  session.on('will-download', (_event, item) => {
    item.setSaveDialogOptions({
      title: `Save ${item.getFilename()}`,
      defaultPath: join(lastFolder(stored), item.getFilename()),
      filters: filtersFor(item),
    })
    item.once('done', (_done, state) => {
      if (state === 'completed') {
        stored.change({ saveFolder: dirname(item.getSavePath()) })
        commands.send({ name: 'saved', file: item.getSavePath() })
      } else if (state === 'interrupted' && !window.isDestroyed()) {
        void dialog.showMessageBox(window, {
          type: 'error',
          title: 'Espalier',
          message: `${item.getFilename()} was not saved`,
          detail: `${item.getSavePath()} could not be written. Check that the disk has space and that you may write there, or choose another folder.`,
        })
      }
    })
  })
}

function lastFolder({ value: { saveFolder } }: StoredState): string {
  return saveFolder !== null && existsSync(saveFolder) ? saveFolder : app.getPath('downloads')
}

function filtersFor(item: DownloadItem) {
  const ending = extname(item.getFilename()).slice(1).toLowerCase()
  const all = { name: 'All files', extensions: ['*'] }
  return ending === '' ? [all] : [{ name: kinds[ending] ?? ending.toUpperCase(), extensions: [ending] }, all]
}
