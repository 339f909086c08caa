import type { DesktopCommand } from '#contract/machine/bridge.ts'
import { call, copyText, desktop, showInFolder } from '../api/api.ts'
import { importFile } from '../lib/import-file.ts'
import { attempt, notify } from '../lib/notices.svelte.ts'
import { router } from '../lib/router.svelte.ts'

/** What the frame shows on command. */
export interface Frame {
  find(): void
  palette(): void
  shortcuts(): void
  about(): void
}

/** Obeys the commands of the window's menus, of notifications and of files. Does nothing in a browser. */
export function followCommands(frame: Frame): void {
  desktop?.onCommand((command) => obey(command, frame))
}

function obey(command: DesktopCommand, frame: Frame): void {
  switch (command.name) {
    case 'go':
      location.hash = command.hash
      break
    case 'back':
      history.back()
      break
    case 'forward':
      history.forward()
      break
    case 'add model':
      router.go(['models'], { add: command.file ?? 'model' })
      break
    case 'import':
      void attempt(() => importFile(command.content))
      break
    case 'report':
      void attempt(reportProblem)
      break
    case 'saved':
      notifySaved(command.file)
      break
    default:
      frame[command.name]()
  }
}

/** Says where a file is, and offers to show it. */
function notifySaved(file: string): void {
  const name = file.split(/[\\/]/).at(-1) ?? file
  notify(`${name} saved`, { action: { label: 'Show in folder', act: () => void attempt(async () => showInFolder?.(file)) } })
}

export async function reportProblem(): Promise<void> {
  await copyText((await call('engine.diagnostics', {})).text)
  notify('A summary of this system was copied, without secrets. Paste it into your report.')
}
